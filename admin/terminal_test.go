package admin

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/spec"
)

// hostile is text that a terminal acts on, or shows as what it is not.
const hostile = "a\x1b[2J\x7f\u009b31m\u202e\u2066\u200b\U000e0041\n"

// Answers are looked at with curl.
func TestServer_AnswersHaveNothingThatATerminalActsOn(t *testing.T) {
	metrics := NewMetrics(MetricsConfig{Connections: func() map[string]int { return map[string]int{hostile + "\xff": 1} }})
	c := startAPI(t, Config{Metrics: metrics.Handler(), Control: Control{
		Instances: func() map[string][]spec.Instance {
			return map[string][]spec.Instance{"echo": {{Address: "127.0.0.1:1", Weight: 1, Tags: map[string]string{hostile: hostile}}}}
		},
		Routes: func() []resolver.RouteStatus {
			return []resolver.RouteStatus{{Name: hostile, Source: etcdsource.Name, Latest: 1, Err: fmt.Errorf("line 1: %s: unknown key", hostile)}}
		},
	}})
	for _, a := range []answer{
		c.do("GET", "/v1/services", ""), c.do("GET", "/v1/routes", ""), c.do("GET", "/metrics", ""),
		c.do("PUT", "/v1/routes/a", strconv.QuoteToASCII(hostile)+": 1"),
		c.do("GET", "/v1/explain?method=%C2%9B%E2%80%AE%7F", ""),
	} {
		require.Equal(t, -1, strings.IndexFunc(a.body, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }), "%q", a.body)
	}
	var services struct{ Services []serviceAnswer }
	c.do("GET", "/v1/services", "").into(t, &services)
	require.Equal(t, hostile, services.Services[0].Instances[0].Tags[hostile], "the same text")
}
