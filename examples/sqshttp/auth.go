package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	algorithm     = "AWS4-HMAC-SHA256"
	dateFormat    = "20060102T150405Z"
	maxSkew       = 15 * time.Minute
	service       = "sqs"
	defaultRegion = "us-east-1"
)

// A keyring has the secret of each access key ID.
type keyring map[string]string

// readKeys reads the flag -keys: pairs ID:SECRET with commas between them, or @FILE with such pairs on its lines.
func readKeys(text string) (keyring, error) {
	if file, ok := strings.CutPrefix(text, "@"); ok {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("-keys: %w", err)
		}
		if text = string(content); strings.TrimSpace(text) == "" {
			return nil, errors.New("-keys: the file has no key") // it was meant to have one: serving everybody is not an answer
		}
	}
	keys := keyring{}
	for n, pair := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == '\n' || c == '\r' }) {
		pair = strings.TrimSpace(pair)
		if pair == "" {
			continue
		}
		id, secret, ok := strings.Cut(pair, ":")
		if !ok || id == "" || secret == "" || strings.ContainsAny(id, "/ ") {
			return nil, fmt.Errorf("-keys: number %d is not ID:SECRET", n+1) // without the text: it may be a secret
		}
		if _, twice := keys[id]; twice {
			return nil, fmt.Errorf("-keys: %s is there twice", id)
		}
		keys[id] = secret
	}
	return keys, nil
}

// An authorization is the header of that name.
type authorization struct {
	id, date, region, service string
	headers                   []string // that are signed, in small letters
	signature                 string
}

// parseAuthorization reads
//
//	AWS4-HMAC-SHA256 Credential=ID/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX
func parseAuthorization(text string) (a authorization, ok bool) {
	text, ok = strings.CutPrefix(text, algorithm+" ")
	if !ok {
		return a, false
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return a, false
	}
	a = authorization{scope[0], scope[1], scope[2], scope[3], strings.Split(fields["SignedHeaders"], ";"), fields["Signature"]}
	return a, validRegion(a.region) && len(a.signature) == hex.EncodedLen(sha256.Size)
}

func validRegion(region string) bool {
	return len(region) > 0 && len(region) <= 32 && strings.Trim(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// regionOf is the region that the client says it is in: ARNs are made with it. It is not checked.
func regionOf(r *http.Request) string {
	if a, ok := parseAuthorization(r.Header.Get("Authorization")); ok {
		return a.region
	}
	return defaultRegion
}

// signedAlways must be under the signature: the rest of a request can be seen in its body.
var signedAlways = []string{"host", "x-amz-date", "x-amz-target"}

// verify returns the ID of the key that r with this body is signed by. It signs the request again as the SDKs do and
// compares the signatures in constant time.
func (k keyring) verify(r *http.Request, body []byte, now time.Time) (id string, err error) {
	a, ok := parseAuthorization(r.Header.Get("Authorization"))
	if !ok {
		return "", refuse("InvalidSecurity", "the request is not signed with Signature Version 4")
	}
	for _, name := range signedAlways {
		if !slices.Contains(a.headers, name) {
			return "", refuse("SignatureDoesNotMatch", "the header %s is not signed", name)
		}
	}
	if a.service != service {
		return "", refuse("SignatureDoesNotMatch", "the credential is not scoped to the service %s", service)
	}
	signed, err := time.Parse(dateFormat, r.Header.Get("X-Amz-Date"))
	if err != nil {
		return "", refuse("SignatureDoesNotMatch", "X-Amz-Date is not a date of the form %s", dateFormat)
	}
	secret, known := k[a.id]
	want, err := a.sign(r, body, secret, signed)
	if err != nil {
		return "", err
	}
	switch {
	case !known:
		return "", refuse("InvalidClientTokenId", "the access key is not known")
	case subtle.ConstantTimeCompare([]byte(want), []byte(a.signature)) != 1:
		return "", refuse("SignatureDoesNotMatch", "the signature is not that of this request")
	case signed.Before(now.Add(-maxSkew)) || signed.After(now.Add(maxSkew)):
		return "", refuse("RequestExpired", "the request was signed at %s, which is more than %v away from %s",
			signed.Format(dateFormat), maxSkew, now.UTC().Format(dateFormat))
	}
	return a.id, nil
}

// sign returns the signature that r has if it was signed with this secret. The body counts as it came, whatever the
// request says of it. A signer of its own for each request: one that is kept would keep a key for every region it saw.
func (a authorization) sign(r *http.Request, body []byte, secret string, at time.Time) (string, error) {
	again := &http.Request{Method: r.Method, Host: r.Host, Header: http.Header{}}
	again.URL = &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	for _, name := range a.headers {
		switch values := r.Header.Values(name); {
		case name == "host":
		case name == "content-length":
			again.ContentLength = int64(len(body))
		case len(values) > 0:
			again.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: a.id, SecretAccessKey: secret}
	err := v4.NewSigner().SignHTTP(r.Context(), creds, again, hex.EncodeToString(sum[:]), a.service, a.region, at)
	if err != nil {
		return "", err
	}
	mine, _ := parseAuthorization(again.Header.Get("Authorization"))
	return mine.signature, nil
}
