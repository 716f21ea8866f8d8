package conf

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
)

func TestParse_FileWithEveryKeyEqualsDefaults(t *testing.T) {
	data, err := os.ReadFile("framegate.yaml")
	require.NoError(t, err)
	c, err := Parse(data)
	require.NoError(t, err)
	want := Default()
	want.Register.Tags = map[string]string{}
	require.Equal(t, want, c)
	require.NoError(t, c.Validate())
	require.NoError(t, Default().Validate())
}

func TestParse_EmptyFileIsDefaults(t *testing.T) {
	c, err := Parse(nil)
	require.NoError(t, err)
	require.Equal(t, Default(), c)
}

func TestParse_ListenerTakesDefaultsForWhatItLeavesOut(t *testing.T) {
	c, err := Parse([]byte(`listeners: [{name: edge, address: "127.0.0.1:1"}, {name: in, address: "127.0.0.1:2", stream_window: 70000}]`))
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	want := DefaultListener()
	want.Name, want.Address = "edge", "127.0.0.1:1"
	require.Equal(t, want, c.Listeners[0])
	require.Equal(t, uint32(70000), c.Listeners[1].StreamWindow)
}

func TestParse_PeerLimitsTakeDefaultsForWhatTheyLeaveOut(t *testing.T) {
	c, err := Parse([]byte(`
listeners: [{name: edge, address: "127.0.0.1:1", peer_limits: {ping: {burst: 7}, handshake_timeout: 3s}}]
upstream: {when_full: wait, peer_limits: {rapid_resets: {within: 1s}}}
`))
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	clients, endpoints := DefaultListener().PeerLimits, Default().Upstream.PeerLimits
	clients.Ping.Burst, clients.HandshakeTimeout, endpoints.RapidResets.Within = 7, 3*time.Second, time.Second
	require.Equal(t, clients, c.Listeners[0].PeerLimits)
	require.Equal(t, endpoints, c.Upstream.PeerLimits)
	require.Equal(t, policy.WhenFullWait, c.Upstream.WhenFull)
}

// Each limit has bounds, on both sides, and a mistake names the key, the value and what was wanted.
func TestValidate_PeerLimits(t *testing.T) {
	numbers := []string{"header_block_bytes", "continuation_frames", "unread_bytes"}
	for _, kind := range []string{"rapid_resets", "provoked_resets", "ping", "settings", "empty_data", "window_update", "priority", "unknown_frames", "other_frames"} {
		numbers = append(numbers, kind+".burst", kind+".per_second")
	}
	times := []string{"handshake_timeout", "header_timeout", "rapid_resets.within", "write_timeout"}
	check := func(key, value, want string) {
		doc := strings.ReplaceAll(key, ".", ": {") + ": " + value + strings.Repeat("}", strings.Count(key, "."))
		for _, side := range []struct{ doc, key string }{
			{`listeners: [{name: a, address: "127.0.0.1:1", peer_limits: {%s}}]`, "listeners[0].peer_limits."}, {"upstream: {peer_limits: {%s}}", "upstream.peer_limits."},
		} {
			c, err := Parse([]byte(fmt.Sprintf(side.doc, doc)))
			if key == "refused_streams.burst" && side.key == "upstream.peer_limits." { // an endpoint opens no streams
				require.ErrorContains(t, err, "upstream.peer_limits.refused_streams: unknown key, want one of: handshake_timeout,")
				continue
			}
			require.NoError(t, err)
			require.ErrorContains(t, c.Validate(), side.key+key+": "+value+", want "+want)
		}
	}
	for _, key := range numbers {
		check(key, "-1", "")
		check(key, "1073741825", "")
	}
	for _, key := range times {
		check(key, "1ns", "1ms to 1h0m0s, or 0s (the default)")
		check(key, "1h0m1s", "1ms to 1h0m0s, or 0s (the default)")
	}
	check("refused_streams.burst", "-1", "1 to 1048576, or 0 (the default)")
	check("header_block_bytes", "65535", "max_header_bytes (65536) to 1073741824, or 0 (the default)")
}

func TestLoad_NamesFileKeyAndValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	for doc, want := range map[string]string{
		"listen: x":                         "line 1: listen: unknown key, want one of: listeners,",
		"listeners: [{adress: x}]":          "line 1: listeners[0].adress: unknown key",
		"drain: {timeout: 5}":               `line 1: drain.timeout: "5", want a duration`,
		"etcd: {endpoints: embedded}":       `line 1: etcd.endpoints: "embedded", want a list`,
		"upstream: {connections: {max: x}}": `line 1: upstream.connections.max: "x", want a whole number`,
		"upstream: {connections: 8}":        `line 1: upstream.connections: "8", want`,
		"upstream: {when_full: [wait]}":     `upstream.when_full: a list, want a string`,
		"register: {tags: {a: [1]}}":        "register.tags.a: a list, want a string",
		"listeners:\n- name: a\n  name: b":  "line 3: listeners[0].name: given twice",
	} {
		require.NoError(t, os.WriteFile(path, []byte(doc), 0o600))
		_, err := Load(path)
		require.ErrorContains(t, err, path, doc)
		require.ErrorContains(t, err, want, doc)
	}
	_, err := Load(path + ".none")
	require.ErrorContains(t, err, path+".none")
}

// secretKeys are words in the keys of what nobody may see.
var secretKeys = []string{"token", "password", "secret"}

// secrets calls do with the key and the value of every string below v whose key holds one of secretKeys.
func secrets(v reflect.Value, do func(key string, v reflect.Value)) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			secrets(v.Index(i), do)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			key, field := v.Type().Field(i).Tag.Get("yaml"), v.Field(i)
			if field.Kind() == reflect.String && slices.ContainsFunc(secretKeys, func(s string) bool { return strings.Contains(key, s) }) {
				do(key, field)
			}
			secrets(field, do)
		}
	}
}

func TestRedacted_HidesEverySecretThatIsSet(t *testing.T) {
	c := Default()
	var keys []string
	secrets(reflect.ValueOf(c).Elem(), func(key string, v reflect.Value) {
		keys = append(keys, key)
		v.SetString("s3cret")
	})
	require.ElementsMatch(t, []string{"token", "password"}, keys)
	r := c.Redacted()
	secrets(reflect.ValueOf(r).Elem(), func(key string, v reflect.Value) { require.Equal(t, "(hidden)", v.String(), key) })
	secrets(reflect.ValueOf(c).Elem(), func(key string, v reflect.Value) { require.Equal(t, "s3cret", v.String(), "the original's "+key) })
	secrets(reflect.ValueOf(Default().Redacted()).Elem(), func(key string, v reflect.Value) { require.Empty(t, v.String(), key) })
	r.Admin, r.Etcd = c.Admin, c.Etcd
	require.Equal(t, c, r, "all else is as it was")
}

func TestValidate_NamesEveryMistake(t *testing.T) {
	c, err := Parse([]byte(`
listeners:
- {name: A, address: here}
- {name: b, address: "127.0.0.1:1", reuse_port: true, health: sick, max_connections: -1, max_calls: -1, max_concurrent_streams: 0, max_header_bytes: 1, stream_window: 1, keepalive: {time: 1ms, timeout: 0s, min_ping_interval: 0s}}
- {name: b, address: "127.0.0.1:1", connection_window: 70000}
- {name: c, address: "127.0.0.1:0", reuse_port: true}
admin: {address: x}
routes: {reload_interval: 0s}
etcd: {endpoints: [embedded, "host"], prefix: framegate/, dial_timeout: 0s, password: p, cert_file: c}
services: {allow: [10.0.0.0/8, host]}
upstream: {connections: {min: -1, max: 9999}, streams_per_connection: -1, when_full: never, max_age: 1ms, backoff: {base: 1us, max: 1ns}, connect_timeout: -1s, max_header_bytes: 1, keepalive: {time: 1ms, timeout: 1ms}, stream_window: 9}
limits: {max_message_bytes: -1, max_decoded_bytes: 1000, max_health_watches: -1}
compression: ["a b"]
register: {service: "a/b", weight: -1, address: ":1", tags: {"": x}}
drain: {delay: -1s, timeout: -1s, endpoint_timeout: 0s}
log: {level: loud, format: xml}
`))
	require.NoError(t, err)
	err = c.Validate()
	for _, want := range []string{
		`listeners[0].name: "A", want`, `listeners[0].address: "here", want host:port`,
		`listeners[1].health: "sick", want own or routed`, `listeners[1].max_concurrent_streams: 0`, `listeners[1].max_header_bytes: 1`, `listeners[1].stream_window: 1, want 65535`,
		`listeners[1].keepalive.time: 1ms`, `listeners[1].keepalive.timeout: 0s`, `listeners[1].keepalive.min_ping_interval: 0s`,
		`listeners[2].name: "b", want a name that no other`, `listeners[2].address: "127.0.0.1:1", want an address that no other`,
		`listeners[2].connection_window: 70000, want stream_window (262144)`,
		`admin.address: "x"`, `routes.reload_interval: 0s`, `etcd.endpoints: "embedded" among others`, `etcd.endpoints: "host", want host:port`,
		`etcd.prefix: "framegate/"`, `etcd.dial_timeout: 0s`, `etcd.username: "" with a password`, `etcd.cert_file: "c" with key ""`,
		`services.allow[1]: "host", want a network such as 10.0.0.0/8`,
		`upstream.connections.min: -1, want 1 to 1024`, `upstream.connections.max: 9999, want 1 to 1024`,
		`upstream.when_full: "never", want wait, fail or grow`, `upstream.max_age: 1ms, want 1s to`,
		`upstream.backoff.base: 1µs, want 1ms to`, `upstream.backoff.max: 1ns, want backoff.base (1ms) to`,
		`upstream.connect_timeout: -1s`, `upstream.max_header_bytes: 1`, `upstream.streams_per_connection: -1`, `upstream.keepalive.time: 1ms`,
		`upstream.keepalive.timeout: 1ms`, `upstream.stream_window: 9`,
		`limits.max_message_bytes: -1`, `limits.max_decoded_bytes: 1000`, `limits.max_health_watches: -1`, `compression[0]: "a b"`, `register.service: "a/b"`, `register.weight: -1`, `register.tags: ""`, `register.address: ":1"`,
		`drain.delay: -1s, want 0s to`, `drain.timeout: -1s`, `drain.endpoint_timeout: 0s`,
		`listeners[1].max_connections: -1`, `listeners[1].max_calls: -1`, `listeners[3].reuse_port: true with address "127.0.0.1:0"`, `log.level: "loud"`, `log.format: "xml"`,
	} {
		require.ErrorContains(t, err, want)
	}
	c, err = Parse([]byte(`{etcd: {endpoints: [none]}, listeners: []}`))
	require.NoError(t, err)
	require.ErrorContains(t, c.Validate(), "routes.file: empty, want a file of routes when etcd.endpoints is none")
	require.ErrorContains(t, c.Validate(), "listeners: empty, want at least one")
}

// What etcd would refuse is a mistake of the configuration: else the start would succeed, and the registration never.
func TestValidate_OfARegistrationIsThatOfAnInstance(t *testing.T) {
	for register, want := range map[string]string{
		"{service: s, weight: 1000001}":               "register.weight: 1000001, want 1 to 1000000",
		"{service: s, tags: {'': x}}":                 `register.tags: "": "x", want a key that is not empty`,
		"{service: 'a b'}":                            `register.service: "a b", want 1 to 255 printable characters`,
		"{service: " + strings.Repeat("s", 256) + "}": "register.service: ",
	} {
		c, err := Parse([]byte("register: " + register))
		require.NoError(t, err)
		require.ErrorContains(t, c.Validate(), want)
	}
}

// A time that is too short for timers, or too long for arithmetic, is refused wherever it stands.
// Kitex's registry takes a prefix that is empty; framegate's own keys must have one.
func TestValidate_PrefixesInEtcd(t *testing.T) {
	for doc, want := range map[string]string{
		`{etcd: {service_prefix: ""}}`:   "",
		`{etcd: {service_prefix: "/"}}`:  `etcd.service_prefix: "/", want a prefix such as kitex/registry-etcd`,
		`{etcd: {service_prefix: "a%"}}`: `etcd.service_prefix: "a%", want`,
		`{etcd: {prefix: ""}}`:           `etcd.prefix: "", want /name`,
	} {
		c, err := Parse([]byte(doc))
		require.NoError(t, err)
		if err := c.Validate(); want != "" {
			require.ErrorContains(t, err, want)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestValidate_EveryDurationHasBounds(t *testing.T) {
	c := Default()
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		switch {
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), keyBelow(path, v.Type().Field(i)))
			}
		case v.Type() == reflect.TypeFor[time.Duration]():
			before := v.Int()
			wrong := []time.Duration{1, math.MaxInt64}
			if path == "drain.delay" { // which is only waited for
				wrong = wrong[1:]
			}
			for _, d := range wrong {
				v.SetInt(int64(d))
				require.ErrorContains(t, c.Validate(), fmt.Sprintf("%s: %s, want ", path, d))
			}
			v.SetInt(before)
			require.NoError(t, c.Validate(), path)
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("framegate.yaml")
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte("listeners: [{}]"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if c, err := Parse(doc); err == nil {
			_ = c.Validate()
		}
	})
}
