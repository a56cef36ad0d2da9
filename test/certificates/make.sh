#!/bin/sh
# Makes the certificates of the tests anew. They are for nothing else: their keys are public.
set -eu
cd "$(dirname "$0")"
new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
new_key ca.key
openssl req -x509 -new -key ca.key -days 36500 -subj '/CN=Tests of Tollgate' -out ca.pem
for name in server client; do
  new_key "$name.key"
  openssl req -new -key "$name.key" -subj "/CN=$name.test" -out "$name.csr"
  printf 'subjectAltName=DNS:%s.test,DNS:localhost,IP:127.0.0.1\n' "$name" > "$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -days 36500 -extfile "$name.ext" -out "$name.pem"
done
rm -f ./*.csr ./*.ext ./*.srl ca.key
