"""The client and the server of any contract, in process or over HTTP; imports no contract."""
