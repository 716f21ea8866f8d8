package spec

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInstance_ReadsTheLayoutOfRegistryEtcd(t *testing.T) {
	for doc, want := range map[string]Instance{
		`{"network":"tcp","address":"127.0.0.1:9001","weight":7,"tags":{"cluster":"a"}}`: {Address: "127.0.0.1:9001", Weight: 7, Tags: map[string]string{"cluster": "a"}},
		`{"network":"tcp","address":"h:1","weight":0,"tags":null}`:                       {Address: "h:1", Weight: 10},
		`{"network":"tcp","address":"h:1","weight":-5,"tags":{}}`:                        {Address: "h:1", Weight: 10},
		`{"network":"tcp6","address":"[::1]:1"}`:                                         {Address: "[::1]:1", Weight: 10},
		`{"network":"unix","address":"/run/echo.sock","weight":1}`:                       {Address: "unix:/run/echo.sock", Weight: 1},
		`{"network":"tcp","address":"h:1","weight":1000000,"zone":"later"}`:              {Address: "h:1", Weight: MaxWeight},
	} {
		got, err := ParseInstance([]byte(doc))
		require.NoError(t, err, doc)
		require.Equal(t, want, got, doc)
		again, err := got.Encode()
		require.NoError(t, err)
		same, err := ParseInstance(again)
		require.NoError(t, err)
		require.Equal(t, got, same)
	}
	doc, err := Instance{Address: "unix:/run/echo.sock", Weight: 3}.Encode()
	require.NoError(t, err)
	require.Equal(t, `{"network":"unix","address":"/run/echo.sock","weight":3,"tags":null}`, string(doc), "byte by byte as registry-etcd writes it")
}

// registry-etcd joins host and port with a colon, whatever the host is.
func TestInstance_ReadsIPv6AddressesWithoutBrackets(t *testing.T) {
	for written, want := range map[string]string{
		"::1:9001":                     "[::1]:9001",
		"[::1]:9001":                   "[::1]:9001",
		"fe80::1%eth0:9001":            "[fe80::1%eth0]:9001",
		"::ffff:127.0.0.1:9001":        "[::ffff:127.0.0.1]:9001",
		"2001:db8::1:9001":             "[2001:db8::1]:9001", // as every address has a port; 2001:db8::1:9001 itself would be [2001:db8::1:9001]:PORT
		"1:2:3:4:5:6:7:8:9001":         "[1:2:3:4:5:6:7:8]:9001",
		"2001:DB8:0:0:0:0:0:1:65535":   "[2001:DB8:0:0:0:0:0:1]:65535",
		"127.0.0.1:9001":               "127.0.0.1:9001",
		"host:9001":                    "host:9001",
		"64:ff9b::192.0.2.1:9001":      "[64:ff9b::192.0.2.1]:9001",
		"fe80::1:2:3:4%en.0:80":        "[fe80::1:2:3:4%en.0]:80",
		"[2001:db8::1:9001]:443":       "[2001:db8::1:9001]:443",
		"[fe80::1%25eth0]:9001":        "[fe80::1%25eth0]:9001",
		"[0:0:0:0:0:ffff:7f00:1]:9001": "[0:0:0:0:0:ffff:7f00:1]:9001",
	} {
		for _, network := range []string{"tcp", "tcp6"} {
			got, err := ParseInstance(fmt.Appendf(nil, `{"network":%q,"address":%q,"weight":1}`, network, written))
			require.NoError(t, err, written)
			require.Equal(t, want, got.Address)
			again, err := got.Encode()
			require.NoError(t, err)
			require.Contains(t, string(again), strconv.Quote(want), "it is written with them")
		}
	}
}

func TestInstance_NamesEachMistake(t *testing.T) {
	for doc, want := range map[string]string{
		``:                  "unexpected end of JSON input, want {network, address, weight, tags} in JSON",
		`colour: red`:       "want {network, address, weight, tags} in JSON",
		`{"address":"h:1"}`: `network: "", want tcp or unix`,
		`{"network":"tcp","address":"h:1","weight":"10"}`:                  `weight: a JSON string, want a number from 1 to 1000000`,
		`{"network":"tcp","address":"h:1","weight":1.5}`:                   `weight: a JSON number 1.5, want a number from 1 to 1000000`,
		`{"network":"tcp","address":"h:1","weight":1e9}`:                   `weight: a JSON number 1e9, want a number from 1 to 1000000`,
		`{"network":"tcp","address":7}`:                                    `address: a JSON number, want a string`,
		`{"network":"tcp","address":"h:1","tags":{"a":1}}`:                 `tags: a JSON number, want an object of strings`,
		`{"network":"udp","address":"nowhere","weight":1000001}`:           "network: \"udp\", want tcp or unix\naddress: \"nowhere\", want host:port or unix:/path\nweight: 1000001, want 1 to 1000000",
		`{"network":"tcp","address":"unix:/run/a"}`:                        `address: "unix:/run/a", want host:port beside network tcp`,
		`{"network":"unix","address":"h:1"}`:                               `address: "unix:h:1", want unix:/path`,
		`{"network":"tcp","address":"::1"}`:                                `address: "::1", want host:port`,
		`{"network":"tcp","address":"2001:db8::"}`:                         `address: "2001:db8::", want host:port`,
		`{"network":"tcp","address":"1:2:3:4:5:6:7:8"}`:                    `address: "1:2:3:4:5:6:7:8", want host:port`, // an address without a port
		`{"network":"tcp","address":"::1:70000"}`:                          `address: "::1:70000", want host:port`,
		`{"network":"tcp","address":"::1:0"}`:                              `address: "[::1]:0", want a port from 1`,
		`{"network":"tcp","address":"::1:080"}`:                            `address: "::1:080", want host:port`, // nobody writes a port so
		`{"network":"tcp","address":":::80"}`:                              `is that of none or of many`,
		`{"network":"tcp","address":"ff02::1:80"}`:                         `is that of none or of many`,
		`{"network":"tcp","address":"[::1:80"}`:                            `address: "[::1:80", want host:port`,
		`{"network":"tcp","address":"h\u0000:1"}`:                          `address: "h\x00:1", want at most 512 printable characters without spaces`,
		`{"network":"tcp","address":"h:1","tags":{"":"x"}}`:                `tags: "": "x", want a key that is not empty`,
		`{"network":"tcp","address":"h:1","weight":"heavy"}`:               "weight",
		`{"network":"tcp","address":"h:1"} {}`:                             "want {network",
		`"` + strings.Repeat("x", maxInstanceBytes) + `"`:                  "document of 65538 bytes, want at most 65536",
		`{"network":"tcp","address":"` + strings.Repeat("h", 600) + `:1"}`: "want at most 512 printable",
	} {
		_, err := ParseInstance([]byte(doc))
		require.ErrorContains(t, err, want, "%.80s", doc)
	}
	_, err := Instance{Address: "h:1", Weight: 1, Tags: map[string]string{"a": strings.Repeat("x", maxInstanceBytes)}}.Encode()
	require.ErrorContains(t, err, "tags: document of 655")
	_, err = Instance{Address: "h:1"}.Encode()
	require.EqualError(t, err, "weight: 0, want 1 to 1000000")
	_, err = Instance{Address: "h:1", Weight: 1, Tags: map[string]string{"a": "\xff"}}.Encode()
	require.ErrorContains(t, err, `tags: "a": "\xff"`)
}

// What is accepted is valid and survives a round trip; nothing panics.
func FuzzParseInstance(f *testing.F) {
	for _, doc := range []string{
		`{"network":"tcp","address":"127.0.0.1:9001","weight":10,"tags":null}`,
		`{"network":"unix","address":"/run/echo.sock","weight":0,"tags":{"cluster":"a","zone":""}}`,
		`{"network":"tcp6","address":"[::1]:65535","weight":-1}`,
		`{"Network":"tcp","ADDRESS":"h:1","tags":{"\ud800":"\u0000"}}`,
		`{"network":"udp"}`, `[]`, `null`, ``, "{\"network\":\"tcp\",\"address\":\"\xff:1\"}",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		in, err := ParseInstance(doc)
		if err != nil {
			return
		}
		require.NoError(t, in.Validate())
		again, err := in.Encode()
		if err != nil {
			require.ErrorContains(t, err, "tags: document of") // written out it may be longer than it was
			return
		}
		got, err := ParseInstance(again)
		require.NoError(t, err)
		require.Equal(t, in, got)
	})
}
