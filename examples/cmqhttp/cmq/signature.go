package cmq

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// authenticate checks who signed a request, and when.
func (h *Handler) authenticate(c *call) error {
	given := map[string]string{}
	for _, name := range []string{"SecretId", "Signature", "Timestamp", "Nonce"} {
		value, err := c.params.text(name)
		if err != nil {
			return err
		}
		given[name] = value
	}
	c.secretID = given["SecretId"]
	key, known := h.keys[c.secretID]
	if !known {
		return fail(4100, 10270, "authentication failed: the SecretId is unknown")
	}
	if !signed(c, key, given["Signature"]) {
		return fail(4100, 10030, "authentication failed: the signature does not match")
	}
	seconds, err := strconv.ParseInt(given["Timestamp"], 10, 64)
	if err != nil {
		return fail(4000, 10360, "parameter Timestamp is not an integer")
	}
	if off := c.began.Sub(time.Unix(seconds, 0)).Abs(); off > h.window {
		return fail(4100, 10030, "authentication failed: Timestamp is more than %v from the server's time", h.window)
	}
	return nil
}

// signed reports whether signature is that of the request. CMQ's Python SDK leaves values that start with @ out of the
// text that it signs, in a POST: a message whose body does has two right signatures. The second one is accepted for
// bodies only, which then are not authenticated, and the rest of the request is.
func signed(c *call, key, signature string) bool {
	all := slices.Sorted(maps.Keys(c.params))
	all = slices.DeleteFunc(all, func(name string) bool { return name == "Signature" })
	if matches(c, all, key, signature) {
		return true
	}
	some := slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		body := name == "msgBody" || strings.HasPrefix(name, "msgBody.")
		return body && strings.HasPrefix(c.params[name], "@")
	})
	return c.method == "POST" && len(some) < len(all) && matches(c, some, key, signature)
}

// matches compares signature with that of the parameters of these names, in constant time.
func matches(c *call, names []string, key, signature string) bool {
	digest := sha1.New
	if c.params["SignatureMethod"] == "HmacSHA256" {
		digest = sha256.New
	}
	mac := hmac.New(digest, []byte(key))
	mac.Write([]byte(c.method + c.host + c.path))
	separator := "?"
	for _, name := range names {
		mac.Write([]byte(separator + strings.ReplaceAll(name, "_", ".") + "=" + c.params[name]))
		separator = "&"
	}
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(want), []byte(signature))
}
