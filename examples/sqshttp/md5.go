package main

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// md5Of is what clients compare with what they sent or got.
func md5Of(body []byte) string {
	sum := md5.Sum(body)
	return hex.EncodeToString(sum[:])
}

// Kinds of a value in the digest of message attributes.
const (
	digestString = 1
	digestBinary = 2
)

// md5OfProperties is the digest of message attributes, "" for none: for each in the order of names, name, data type, a
// byte for the kind and value; each text with its length before it, as four bytes, big-endian.
func md5OfProperties(ps []property) string {
	if len(ps) == 0 {
		return ""
	}
	sorted := slices.SortedFunc(slices.Values(ps), func(a, b property) int { return strings.Compare(a.name, b.name) })
	var text []byte
	for _, p := range sorted {
		text = appendText(text, p.name)
		text = appendText(text, p.dataType)
		kind := byte(digestString)
		if p.binary() {
			kind = digestBinary
		}
		text = append(text, kind)
		text = appendText(text, p.value)
	}
	return md5Of(text)
}

func appendText(to []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(text))), text...)
}
