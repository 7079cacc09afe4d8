#!/bin/sh
# Makes the certificates and keys beside this file, which rcgen does not make, anew: ./make.sh
# They are good for a hundred years. OpenSSL 3.
set -e
cd "$(dirname "$0")"
days="-days 36500"
names="subjectAltName=DNS:localhost,IP:127.0.0.1"
leaf="-addext basicConstraints=CA:FALSE"

p256() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# One that signs itself: its certificate and its key in one file.
own() { # name, options
    name=$1
    shift
    [ -s key ] || p256 key
    openssl req -x509 -new -key key $days -subj "/CN=$name" -out cert "$@" 2>/dev/null
    cat cert key >"$name.pem"
    rm -f cert key
}

# One with the key in `key` that an authority signs whose key is in `root-key`, and the authority.
issued() { # name, digest
    [ -s root-key ] || p256 root-key
    [ -s key ] || p256 key
    openssl req -x509 -new -key root-key $days -subj "/CN=authority of $1" -out "$1-root.pem"
    openssl req -new -key key -subj "/CN=$1" -out request
    printf '%s\nbasicConstraints=CA:FALSE\n' "$names" >extensions
    openssl x509 -req -in request -CA "$1-root.pem" -CAkey root-key -set_serial 1 $days $2 \
        -extfile extensions -out cert 2>/dev/null
    cat cert key >"$1.pem"
    rm -f cert key request extensions root-key
}

# Version 1 is what `x509 -req` makes without extensions.
p256 key
openssl req -new -key key -subj /CN=localhost -out request
openssl x509 -req -in request -signkey key $days -out cert 2>/dev/null
cat cert key >version-1.pem
rm -f cert key request

own dns-address $leaf -addext subjectAltName=DNS:127.0.0.1,DNS:::1
own no-names $leaf
own critical $leaf -addext "$names" -addext 1.3.6.1.4.1.99999.1=critical,ASN1:NULL
for digest in sha1 md5; do
    openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key
    own $digest $leaf -addext "$names" -$digest
done
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key
own rsa-1024 $leaf -addext "$names"

openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out root-key
issued by-rsa-1024 -sha256
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out root-key
issued by-p521 -sha256
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out root-key
issued by-p521-sha512 -sha512
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out root-key
issued by-secp256k1 -sha256
openssl genpkey -quiet -algorithm ED448 -out root-key
issued by-ed448 ""

openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key
issued with-rsa-1024 -sha256
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key
issued with-p521 -sha256

# Keys that ring does not take, in each of their forms.
openssl ecparam -name secp521r1 -genkey -noout -out key-p521-sec1.pem
openssl pkcs8 -topk8 -nocrypt -in key-p521-sec1.pem -out key-p521.pem
openssl ecparam -name secp256k1 -genkey -noout -out key-secp256k1.pem
openssl ecparam -name P-256 -genkey -noout -param_enc explicit -out key-explicit.pem
openssl genpkey -quiet -algorithm ED448 -out key-ed448.pem
openssl genpkey -quiet -algorithm X25519 -out key-x25519.pem
openssl genpkey -quiet -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out key-rsa-pss.pem
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key-rsa-1024.pem
openssl rsa -traditional -in key-rsa-1024.pem -out key-rsa-1024-pkcs1.pem 2>/dev/null
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:8192 -out key-rsa-8192.pem
openssl dsaparam -genkey -noout -out key-dsa.pem 1024 2>/dev/null
openssl pkcs8 -topk8 -nocrypt -in key-dsa.pem -out key-dsa-pkcs8.pem
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -aes-256-cbc \
    -pass pass:secret -out key-encrypted.pem
