"""For clients that speak HTTP without TLS."""

import ssl

# `verify` of each: a client that isn't given one loads the machine's certificates, which takes 20 ms of the processor.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
