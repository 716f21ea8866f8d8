package handler_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/framegate/framegate/handler/handlertest"
)

// BenchmarkUnary makes calls, client and server included, through routes that may try them again, bound them or end them
// and never have to: the difference to the plain one is what that costs a call.
func BenchmarkUnary(b *testing.B) {
	for _, c := range []struct{ name, keys string }{
		{"plain", ""},
		{"retry", ", retry: {attempts: 3}"},
		{"per try timeout", ", retry: {attempts: 3, per_try_timeout: 10s}"},
		{"hedge", ", hedge: {delay: 10s}"},
		{"limits", ", limits: {concurrent: 1000000, pending: 1000000, calls_per_second: 1000000}"},
		{"timeouts", ", timeout: 1m, idle_timeout: 1m, max_stream_age: 1m"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := startRouted(b, fmt.Sprintf("{name: r, match: [{method: \"*\"}], backends: [{endpoints: [{address: %q}]}]%s}",
				handlertest.Backend(b, handlertest.Echo), c.keys), nil)
			msg := make([]byte, 100)
			unary := func() {
				if _, err := handlertest.Unary(context.Background(), r.cc, "/echo.Echo/Say", msg); err != nil {
					b.Error(err)
				}
			}
			unary()
			b.ReportAllocs()
			for b.Loop() {
				unary()
			}
		})
	}
}
