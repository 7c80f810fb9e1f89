#!/bin/sh
# Makes the secrets that compose.yaml mounts, once: what is there already stays as it is. Needs openssl.
set -eu
cd "$(dirname "$0")/.."

# Only you can enter the folder. The files in it can be read by the containers' accounts, which are other than yours.
mkdir -p -m 700 secrets

keep() { # NAME: standard input becomes the secret; it appears whole or not at all
    new=secrets/.$1.new
    cat > "$new"
    test -s "$new"
    chmod 444 "$new"
    mv "$new" "secrets/$1"
    echo "made secrets/$1"
}
missing() { [ ! -e "secrets/$1" ]; }

for name in postgres-password service-credential; do
    if missing $name; then openssl rand -hex 32 | keep $name; fi
done
for name in migration auth events; do
    if missing database-$name-url; then
        password=$(openssl rand -hex 32)
        echo "postgresql://eventboard_${name}_login:$password@postgres:5432/eventboard" | keep database-$name-url
    fi
done
if missing signing-key.pem; then
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | keep signing-key.pem
fi

# Compose reads .env by itself.
touch .env
for line in SECRETS=./secrets COMPOSE_PROFILES=services; do
    if ! grep -q "^${line%%=*}=" .env; then
        echo "$line" >> .env
        echo "set $line in .env"
    fi
done
