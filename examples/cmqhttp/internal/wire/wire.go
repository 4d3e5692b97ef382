// Package wire is CMQ's protocol from the client's side, for tests: it signs requests, writes them byte by byte as the
// SDKs do, and reads the answers. It shares no code with the server, so that the two cannot be wrong in the same way.
package wire

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Client signs requests. The zero value of an optional field is what the Python SDK does.
type Client struct {
	Addr    string // of the server, and the Host that is signed
	ID, Key string
	SHA256  bool
	GET     bool
	WholeAt bool   // values that start with @ are signed in a POST too, as all SDKs but Python's do
	Path    string // default /v2/index.php

	nonce atomic.Int64
}

// An Answer is a reply of the server.
type Answer struct {
	Status    int
	Code      int
	Message   string
	RequestID string
	Members   map[string]any // all of them, as encoding/json reads them
	Raw       string
}

// Sign returns the signature of parameters that are given in any order.
func Sign(method, host, path string, pairs [][2]string, key string, long, wholeAt bool) string {
	lines := make([]string, 0, len(pairs))
	sorted := append([][2]string(nil), pairs...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i][0] < sorted[j][0] })
	for _, p := range sorted {
		if method == "POST" && !wholeAt && strings.HasPrefix(p[1], "@") {
			continue
		}
		lines = append(lines, p[0]+"="+p[1])
	}
	digest := sha1.New
	if long {
		digest = sha256.New
	}
	mac := hmac.New(digest, []byte(key))
	fmt.Fprintf(mac, "%s%s%s?%s", method, host, path, strings.Join(lines, "&"))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Request returns the bytes of a request. The names and values of the action's parameters follow each other in args.
func (c *Client) Request(action string, args ...string) []byte {
	method, path, algorithm := "POST", "/v2/index.php", "HmacSHA1"
	if c.GET {
		method = "GET"
	}
	if c.Path != "" {
		path = c.Path
	}
	if c.SHA256 {
		algorithm = "HmacSHA256"
	}
	var pairs [][2]string
	for i := 0; i < len(args); i += 2 {
		pairs = append(pairs, [2]string{args[i], args[i+1]})
	}
	pairs = append(pairs, [][2]string{
		{"Action", action}, {"RequestClient", "SDK_Python_1.3"}, {"SecretId", c.ID},
		{"Nonce", strconv.FormatInt(1<<62+c.nonce.Add(1), 10)},
		{"Timestamp", strconv.FormatInt(time.Now().Unix(), 10)}, {"SignatureMethod", algorithm},
	}...)
	pairs = append(pairs, [2]string{"Signature", Sign(method, c.Addr, path, pairs, c.Key, c.SHA256, c.WholeAt)})
	var form []string
	for _, p := range pairs {
		form = append(form, p[0]+"="+url.QueryEscape(p[1]))
	}
	data := strings.Join(form, "&")
	if c.GET {
		return []byte("GET " + path + "?" + data + " HTTP/1.1\r\nHost: " + c.Addr + "\r\nAccept-Encoding: identity\r\n\r\n")
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: identity\r\nContent-Length: %d\r\nConnection: Keep-Alive\r\n\r\n%s",
		path, c.Addr, len(data), data)
}

// A Conn is one connection to a server, for one request at a time.
type Conn struct {
	net.Conn
	r *bufio.Reader
	c *Client
}

// Dial connects to the server.
func (c *Client) Dial() (*Conn, error) {
	conn, err := net.Dial("tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, r: bufio.NewReader(conn), c: c}, nil
}

// Do sends a request and returns its answer.
func (c *Conn) Do(action string, args ...string) (Answer, error) {
	if err := c.Send(action, args...); err != nil {
		return Answer{}, err
	}
	return c.Answer()
}

// Send sends a request; Answer reads its answer.
func (c *Conn) Send(action string, args ...string) error {
	_, err := c.Write(c.c.Request(action, args...))
	return err
}

// Answer reads the next answer, which must be a JSON object with code, message and requestId, as SDKs want it.
func (c *Conn) Answer() (a Answer, err error) {
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return a, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return a, err
	}
	a.Status, a.Raw = r.StatusCode, string(text)
	if r.ContentLength != int64(len(text)) {
		return a, fmt.Errorf("Content-Length is %d, the body has %d bytes", r.ContentLength, len(text))
	}
	var common struct {
		Code      *int    `json:"code"`
		Message   *string `json:"message"`
		RequestID *string `json:"requestId"`
	}
	if err := json.Unmarshal(text, &common); err != nil {
		return a, err
	}
	if common.Code == nil || common.Message == nil || common.RequestID == nil || *common.RequestID == "" {
		return a, fmt.Errorf("no code, message or requestId in %s", text)
	}
	a.Code, a.Message, a.RequestID = *common.Code, *common.Message, *common.RequestID
	return a, json.Unmarshal(text, &a.Members)
}

// Text returns a member that must be a string.
func (a Answer) Text(name string) string { return a.Members[name].(string) }

// Int returns a member that must be an integer.
func (a Answer) Int(name string) int64 {
	f := a.Members[name].(float64)
	if n := int64(f); float64(n) == f {
		return n
	}
	panic(fmt.Sprintf("%s is %v, want an integer", name, f))
}

// Objects returns a member that must be an array of objects.
func (a Answer) Objects(name string) (list []Answer) {
	for _, o := range a.Members[name].([]any) {
		list = append(list, Answer{Members: o.(map[string]any)})
	}
	return list
}
