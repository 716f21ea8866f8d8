package health

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig_ZeroMeansTheDefaults(t *testing.T) {
	want := Config{Type: TypeGRPC, Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	require.Equal(t, want, Config{Type: TypeGRPC}.withDefaults())
	require.Equal(t, 200*time.Millisecond, Config{Interval: 200 * time.Millisecond}.withDefaults().Timeout, "no more than interval")
}

func TestConfig_ValidateNamesKeyValueAndBound(t *testing.T) {
	long := strings.Repeat("s", 300)
	for want, cfg := range map[string]Config{
		`type: "", want grpc or tcp`:                                 {},
		`type: "http", want grpc or tcp`:                             {Type: "http"},
		`service: "x", want it with type grpc only`:                  {Type: TypeTCP, Service: "x"},
		`service: "` + long + `", want UTF-8 of at most 256 bytes`:   {Type: TypeGRPC, Service: long},
		`service: "\xff", want UTF-8 of at most 256 bytes`:           {Type: TypeGRPC, Service: "\xff"},
		`authority: "x", want it with type grpc only`:                {Type: TypeTCP, Authority: "x"},
		`authority: "a b", want a host or host:port without spaces`:  {Type: TypeGRPC, Authority: "a b"},
		`authority: "a\nb", want a host or host:port without spaces`: {Type: TypeGRPC, Authority: "a\nb"},
		"interval: 99ms, want 100ms to 1h0m0s":                       {Type: TypeTCP, Interval: 99 * time.Millisecond, Timeout: time.Millisecond},
		"interval: 2h0m0s, want 100ms to 1h0m0s":                     {Type: TypeTCP, Interval: 2 * time.Hour},
		"timeout: 6s, want 1ms to interval (5s)":                     {Type: TypeTCP, Timeout: 6 * time.Second},
		"timeout: -1s, want 1ms to interval (5s)":                    {Type: TypeTCP, Timeout: -time.Second},
		"rise: -1, want 1 to 1000":                                   {Type: TypeTCP, Rise: -1},
		"fall: 1001, want 1 to 1000":                                 {Type: TypeTCP, Fall: 1001},
		"type: \"x\", want grpc or tcp\nrise: 2000, want 1 to 1000":  {Type: "x", Rise: 2000},
	} {
		require.EqualError(t, cfg.Validate(), want)
	}
	require.NoError(t, Config{
		Type: TypeGRPC, Service: "a.B", Authority: "x:1",
		Interval: 100 * time.Millisecond, Timeout: 100 * time.Millisecond, Rise: 1, Fall: 1,
	}.Validate())
}
