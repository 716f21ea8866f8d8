package spec

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/eject"
	"github.com/framegate/framegate/resolver/health"
)

// Documents with every key of load and failure. goodPolicies[1] has what the first cannot have beside the rest.
var goodPolicies = []string{`
name: every
match: [{method: "*"}]
timeout: 30s
idle_timeout: 1m30s
max_stream_age: 1h
balancer: {policy: consistent_hash, hash: {header: x-user}, bound_percent: 150}
retry:
  attempts: 3
  codes: [UNAVAILABLE, DEADLINE_EXCEEDED]
  per_try_timeout: 250ms
  backoff: {base: 10ms, max: 1s}
  budget: {percent: 30, min: 5}
  buffer_bytes: 1000
limits: {concurrent: 100, pending: 10, calls_per_second: 0.5, burst: 7, per: {peer: true}}
backends:
- service: s
  pool:
    connections: {min: 1, max: 4}
    streams_per_connection: 50
    when_full: wait
    connect_timeout: 1s
    idle_timeout: -1s
    max_age: 5m
    backoff: {base: 20ms, max: 2s}
    keepalive: {time: 10s, timeout: 5s}
    stream_window: 70000
    connection_window: 80000
    max_header_bytes: 5000
  health: {type: grpc, service: s.S, authority: "s.example.com:80", interval: 3s, timeout: 2s, rise: 4, fall: 5}
  ejection: {consecutive_failures: -1, failure_percent: 20, min_calls: 30, window: 20s, base_time: 5s, max_time: 1m, max_percent: 40}
  panic_percent: 0
  limits: {concurrent: 50, pending: 5, calls_per_second: 100, burst: 10}
`, `
name: other
match: [{method: "*"}]
balancer: {policy: peak_ewma, slow_start: 30s, decay: 5s}
hedge: {delay: 20ms, budget: {percent: 10, min: 1}, buffer_bytes: 2000}
limits: {calls_per_second: 1e3, per: {authority: true}}
backends: [{endpoints: [{address: "h:1"}], health: {type: tcp}, panic_percent: 100}]
`}

func TestPolicies_SurviveARoundTripInYAMLAndJSON(t *testing.T) {
	for _, doc := range goodPolicies {
		r := validRoute(t, doc)
		yaml, err := r.Encode()
		require.NoError(t, err)
		require.Equal(t, r, validRoute(t, string(yaml)))
		text, err := json.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, r, validRoute(t, string(text)))
		for _, line := range strings.Split(doc, "\n") { // nothing that was said is lost
			for _, key := range strings.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(" {},[]", c) }) {
				if name, ok := strings.CutSuffix(key, ":"); ok {
					require.Contains(t, string(text), `"`+name+`":`)
				}
			}
		}
	}
}

func TestPolicies_AreReadAsTheyAreWritten(t *testing.T) {
	r := validRoute(t, goodPolicies[0])
	zero := 0
	require.Equal(t, &Balancer{Policy: ConsistentHash, Hash: &CallKey{Header: "x-user"}, BoundPercent: 150}, r.Balancer)
	require.Equal(t, []time.Duration{30 * time.Second, 90 * time.Second, time.Hour}, []time.Duration{r.Timeout, r.IdleTimeout, r.MaxStreamAge})
	require.Equal(t, &Retry{
		Attempts: 3, Codes: []string{"UNAVAILABLE", "DEADLINE_EXCEEDED"}, PerTryTimeout: 250 * time.Millisecond,
		Backoff: Backoff{10 * time.Millisecond, time.Second}, Budget: RetryBudget{30, 5}, BufferBytes: 1000, codes: 1<<14 | 1<<4,
	}, r.Retry)
	require.Equal(t, &Limits{Concurrent: 100, Pending: 10, CallsPerSecond: 0.5, Burst: 7, Per: &CallKey{Peer: true}}, r.Limits)
	b := r.Backends[0]
	require.Equal(t, &policy.Policy{
		Connections: policy.Connections{Min: 1, Max: 4}, StreamsPerConnection: 50, WhenFull: policy.WhenFullWait, ConnectTimeout: time.Second, IdleTimeout: -time.Second,
		MaxAge: 5 * time.Minute, Backoff: policy.Backoff{Base: 20 * time.Millisecond, Max: 2 * time.Second}, Keepalive: policy.Keepalive{Time: 10 * time.Second, Timeout: 5 * time.Second},
		StreamWindow: 70000, ConnectionWindow: 80000, MaxHeaderBytes: 5000,
	}, b.Pool)
	require.Equal(t, &health.Config{
		Type: health.TypeGRPC, Service: "s.S", Authority: "s.example.com:80", Interval: 3 * time.Second, Timeout: 2 * time.Second, Rise: 4, Fall: 5,
	}, b.Health)
	require.Equal(t, &eject.Config{
		ConsecutiveFailures: eject.Off, FailurePercent: 20, MinCalls: 30, Window: 20 * time.Second, BaseTime: 5 * time.Second, MaxTime: time.Minute, MaxPercent: 40,
	}, b.Ejection)
	require.Equal(t, &zero, b.PanicPercent)
	require.Equal(t, &Limits{Concurrent: 50, Pending: 5, CallsPerSecond: 100, Burst: 10}, b.Limits)
	other := validRoute(t, goodPolicies[1])
	require.Equal(t, &Balancer{Policy: PeakEWMA, SlowStart: 30 * time.Second, Decay: 5 * time.Second}, other.Balancer)
	require.Equal(t, &Hedge{Delay: 20 * time.Millisecond, Budget: RetryBudget{10, 1}, BufferBytes: 2000}, other.Hedge)
}

func TestPolicies_Defaults(t *testing.T) {
	r := validRoute(t, `{name: r, match: [{method: "*"}], retry: {}, balancer: {}, limits: {}, backends: [{service: s, pool: {}, ejection: {}, limits: {}, panic_percent: 0}]}`)
	require.Equal(t, 2, r.Retry.Attempts)
	for code := range uint32(40) {
		require.False(t, r.Retry.On(code), code)
	}
	require.False(t, r.Retry.OnLate())
}

func TestPolicies_EachMistakeNamesKeyValueAndWant(t *testing.T) {
	const wantHash = "want {header: NAME}, {authority: true} or {peer: true}"
	inRoute := map[string]string{
		`idle_timeout: -1s`:       `idle_timeout: -1s, want 0s (none) or 10ms to 8760h0m0s`,
		`idle_timeout: 8761h`:     `idle_timeout: 8761h0m0s, want 0s (none) or 10ms to 8760h0m0s`,
		`idle_timeout: 5`:         `idle_timeout`,
		`max_stream_age: -1ns`:    `max_stream_age: -1ns, want 0s (none) or 1ms to 8760h0m0s`,
		`max_stream_age: 10000h`:  `max_stream_age: 10000h0m0s, want 0s (none) or 1ms to 8760h0m0s`,
		`timeout: 10000h`:         `timeout: 10000h0m0s, want 0s (none) or 1ms to 8760h0m0s`,
		`balancer: {colour: red}`: `balancer.colour: unknown key, want one of: policy, slow_start, decay, hash, bound_percent`,

		`balancer: {policy: rr}`:      `balancer.policy: "rr", want weighted_random, round_robin, least_request, peak_ewma or consistent_hash`,
		`balancer: {slow_start: -1s}`: `balancer.slow_start: -1s, want 0s (none) or 100ms to 1h0m0s`,
		`balancer: {slow_start: 61m}`: `balancer.slow_start: 1h1m0s, want 0s (none) or 100ms to 1h0m0s`,
		`balancer: {policy: consistent_hash, hash: {peer: true}, slow_start: 1s}`: `balancer.slow_start: 1s beside policy consistent_hash, want it beside another policy`,
		`balancer: {decay: 1s}`:                                                             `balancer.decay: 1s beside policy weighted_random, want it beside peak_ewma only`,
		`balancer: {policy: peak_ewma, decay: 1ms}`:                                         `balancer.decay: 1ms, want 100ms to 10m0s`,
		`balancer: {policy: peak_ewma, decay: -1s}`:                                         `balancer.decay: -1s, want 100ms to 10m0s`,
		`balancer: {policy: peak_ewma, decay: 11m}`:                                         `balancer.decay: 11m0s, want 100ms to 10m0s`,
		`balancer: {policy: round_robin, hash: {header: x-a}}`:                              `balancer.hash: header x-a beside policy round_robin, want it beside consistent_hash only`,
		`balancer: {policy: consistent_hash}`:                                               `balancer.hash: not there, ` + wantHash,
		`balancer: {policy: consistent_hash, hash: {}}`:                                     `balancer.hash: 0 of header, authority and peer, want one`,
		`balancer: {policy: consistent_hash, hash: {header: x-a, peer: true}}`:              `balancer.hash: 2 of header, authority and peer, want one`,
		`balancer: {policy: consistent_hash, hash: {header: X-A}}`:                          `balancer.hash.header: "X-A", want a header name of a-z`,
		`balancer: {policy: consistent_hash, hash: {header: te}}`:                           `balancer.hash.header: "te", want a header that is not of the transport`,
		`balancer: {bound_percent: 125}`:                                                    `balancer.bound_percent: 125 beside policy weighted_random, want it beside consistent_hash only`,
		`balancer: {policy: consistent_hash, hash: {authority: true}, bound_percent: 100}`:  `balancer.bound_percent: 100, want 101 to 1000`,
		`balancer: {policy: consistent_hash, hash: {authority: true}, bound_percent: 1001}`: `balancer.bound_percent: 1001, want 101 to 1000`,
		`retry: {attempts: 1}`:                                                              `retry.attempts: 1, want 2 to 10, the first attempt included`,
		`retry: {attempts: 11}`:                                                             `retry.attempts: 11, want 2 to 10`,
		`retry: {attempts: -1}`:                                                             `retry.attempts: -1, want 2 to 10`,
		`retry: {codes: [UNAVAILABLE, unavailable]}`:                                        `retry.codes[1]: "unavailable", want a status of gRPC such as UNAVAILABLE, other than OK`,
		`retry: {codes: [OK]}`:                                                              `retry.codes[0]: "OK", want a status of gRPC`,
		`retry: {codes: ["14"]}`:                                                            `retry.codes[0]: "14", want a status of gRPC`,
		`retry: {per_try_timeout: -1s}`:                                                     `retry.per_try_timeout: -1s, want 0s (none) or 1ms to 8760h0m0s`,
		`retry: {backoff: {base: -1s}}`:                                                     `retry.backoff.base: -1s, want 1ms to 1m0s`,
		`retry: {backoff: {base: 1us}}`:                                                     `retry.backoff.base: 1µs, want 1ms to 1m0s`,
		`retry: {backoff: {base: 2m}}`:                                                      `retry.backoff.base: 2m0s, want 1ms to 1m0s`,
		`retry: {backoff: {base: 2s, max: 1s}}`:                                             `retry.backoff.max: 1s, want base (2s) to 1m0s`,
		`retry: {backoff: {max: 2m}}`:                                                       `retry.backoff.max: 2m0s, want base (1ms) to 1m0s`,
		`retry: {budget: {percent: 101}}`:                                                   `retry.budget.percent: 101, want 1 to 100`,
		`retry: {budget: {percent: -1}}`:                                                    `retry.budget.percent: -1, want 1 to 100`,
		`retry: {budget: {min: -1}}`:                                                        `retry.budget.min: -1, want 1 to 1000000`,
		`retry: {buffer_bytes: -1}`:                                                         `retry.buffer_bytes: -1, want 1 to 16777216`,
		`retry: {buffer_bytes: 16777217}`:                                                   `retry.buffer_bytes: 16777217, want 1 to 16777216`,
		`hedge: {}`:                                                                         `hedge.delay: 0s, want 1ms to 8760h0m0s`,
		`hedge: {delay: 1us}`:                                                               `hedge.delay: 1µs, want 1ms to 8760h0m0s`,
		`hedge: {delay: 1s, budget: {percent: 101, min: 1000001}}`:                          `hedge.budget.percent: 101, want 1 to 100|hedge.budget.min: 1000001, want 1 to 1000000`,
		`hedge: {delay: 1s, buffer_bytes: -1}`:                                              `hedge.buffer_bytes: -1, want 1 to 16777216`,
		"hedge: {delay: 1s}\nretry: {}":                                                     `hedge: beside retry, want one of the two`,
		`limits: {concurrent: -1, pending: -2}`:                                             `limits.concurrent: -1, want 0 (no limit) to 10000000|limits.pending: -2, want 0 (no limit) to 10000000`,
		`limits: {concurrent: 10000001, pending: 10000001}`:                                 `limits.concurrent: 10000001, want|limits.pending: 10000001, want`,
		`limits: {calls_per_second: -1}`:                                                    `limits.calls_per_second: -1, want 0.001 to 1000000`,
		`limits: {calls_per_second: .nan}`:                                                  `limits.calls_per_second`,
		`limits: {calls_per_second: 1e9}`:                                                   `limits.calls_per_second: 1e+09, want 0.001 to 1000000`,
		`limits: {calls_per_second: 1, burst: -1}`:                                          `limits.burst: -1, want 0 (calls_per_second, rounded up) to 1000000`,
		`limits: {burst: 3}`:                                                                `limits.burst: 3 without calls_per_second, want both`,
		`limits: {per: {peer: true}}`:                                                       `limits.per: peer without calls_per_second, want both`,
		`limits: {calls_per_second: 1, per: {}}`:                                            `limits.per: 0 of header, authority and peer, want one`,
		`limits: {calls_per_second: 1, per: {header: "a b"}}`:                               `limits.per.header: "a b", want a header name`,
	}
	inBackend := map[string]string{
		`pool: {connections: {min: -1, max: 1025}}`:              `pool.connections.min: -1, want 1 to 1024|pool.connections.max: 1025, want 1 to 1024`,
		`pool: {connections: {min: 5, max: 4}}`:                  `pool.connections.min: 5, want at most connections.max (4)`,
		`pool: {streams_per_connection: -1}`:                     `pool.streams_per_connection: -1, want 1 to 1048576`,
		`pool: {when_full: never}`:                               `pool.when_full: "never", want wait, fail or grow`,
		`pool: {connect_timeout: -1s}`:                           `pool.connect_timeout: -1s, want 1ms to 8760h0m0s`,
		`pool: {connect_timeout: 8761h}`:                         `pool.connect_timeout: 8761h0m0s, want 1ms to 8760h0m0s`,
		`pool: {idle_timeout: 1us}`:                              `pool.idle_timeout: 1µs, want 1ms to 8760h0m0s, or less than 0s (never)`,
		`pool: {max_age: 999ms}`:                                 `pool.max_age: 999ms, want 1s to 8760h0m0s, or less than 0s (never)`,
		`pool: {backoff: {base: 1us}}`:                           `pool.backoff.base: 1µs, want 1ms to 8760h0m0s`,
		`pool: {backoff: {base: 2s, max: 1s}}`:                   `pool.backoff.max: 1s, want backoff.base (2s) to 8760h0m0s`,
		`pool: {keepalive: {time: 1ms, timeout: -1s}}`:           `pool.keepalive.time: 1ms, want 1s to 8760h0m0s, or less than 0s (never)|pool.keepalive.timeout: -1s, want 1s to 8760h0m0s`,
		`pool: {stream_window: 1}`:                               `pool.stream_window: 1, want 65535 to 2147483647`,
		`pool: {connection_window: 2147483648}`:                  `pool.connection_window: 2147483648, want 65535 to 2147483647`,
		`pool: {stream_window: 80000, connection_window: 70000}`: `pool.connection_window: 70000, want at least stream_window (80000)`,
		`pool: {max_header_bytes: 1}`:                            `pool.max_header_bytes: 1, want 4096 to 2147483647`,
		`health: {}`:                                             `health.type: "", want grpc or tcp`,
		`health: {type: udp}`:                                    `health.type: "udp", want grpc or tcp`,
		`health: {type: tcp, service: s, authority: a}`:          `health.service: "s", want it with type grpc only|health.authority: "a", want it with type grpc only`,
		`health: {type: grpc, authority: "a b"}`:                 `health.authority: "a b", want a host`,
		`health: {type: tcp, interval: 1ms, timeout: 2h}`:        `health.interval: 1ms, want 100ms to 1h0m0s|health.timeout: 2h0m0s, want 1ms to interval (1ms)`,
		`health: {type: tcp, rise: -1, fall: 1001}`:              `health.rise: -1, want 1 to 1000|health.fall: 1001, want 1 to 1000`,
		`ejection: {consecutive_failures: -2}`:                   `ejection.consecutive_failures: -2, want 1 to 1000000, or -1 (off)`,
		`ejection: {failure_percent: 101, min_calls: -1}`:        `ejection.failure_percent: 101, want 0 (off) to 100|ejection.min_calls: -1, want 1 to 1000000`,
		`ejection: {window: 1ms}`:                                `ejection.window: 1ms, want 1s to 10m0s`,
		`ejection: {base_time: 1ms}`:                             `ejection.base_time: 1ms, want 10ms to 24h0m0s`,
		`ejection: {base_time: 10s, max_time: 9s}`:               `ejection.max_time: 9s, want base_time (10s) to 24h0m0s`,
		`ejection: {max_percent: 101}`:                           `ejection.max_percent: 101, want 1 to 100`,
		`panic_percent: -1`:                                      `panic_percent: -1, want 0 (never) to 100`,
		`panic_percent: 101`:                                     `panic_percent: 101, want 0 (never) to 100`,
		`limits: {concurrent: -1}`:                               `limits.concurrent: -1, want 0 (no limit) to 10000000`,
		`limits: {burst: 3}`:                                     `limits.burst: 3 without calls_per_second, want both`,
		`limits: {calls_per_second: 1, per: {peer: true}}`:       `limits.per: peer, want it in the route's limits`,
		`pool: {colour: red}`:                                    `pool.colour: unknown key`,
	}
	check := func(doc, wants, path string) {
		_, err := ParseRoute([]byte(doc))
		for _, want := range strings.Split(wants, "|") {
			require.ErrorContains(t, err, path+want, doc)
		}
	}
	for text, wants := range inRoute {
		check("name: r\nmatch: [{method: '*'}]\nbackends: [{service: s}]\n"+text, wants, "")
	}
	for text, wants := range inBackend {
		check(fmt.Sprintf("name: r\nmatch: [{method: '*'}]\nbackends: [{service: s}, {service: s, %s}]", text), wants, "backends[1].")
	}
}
