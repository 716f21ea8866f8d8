package spec

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// eachDuration calls do with every duration below v.
func eachDuration(v reflect.Value, path string, do func(path string, d reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachDuration(v.Elem(), path, do)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachDuration(v.Index(i), fmt.Sprintf("%s[%d]", path, i), do)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if key != "" {
				eachDuration(v.Field(i), strings.TrimPrefix(path+"."+key, "."), do)
			}
		}
	case reflect.Int64:
		if v.Type() == reflect.TypeFor[time.Duration]() {
			do(path, v)
		}
	}
}

// A time that is too short for timers, or too long for arithmetic, is refused wherever it stands in a route.
func TestParseRoute_EveryDurationHasBounds(t *testing.T) {
	seen := map[string]bool{}
	for _, further := range []string{"retry: {attempts: 2}", "hedge: {delay: 1ms}"} {
		r, err := ParseRoute([]byte(`
name: r
match: [{method: "*"}]
balancer: {policy: peak_ewma}
backends: [{endpoints: [{address: "127.0.0.1:1"}], pool: {when_full: wait}, health: {type: tcp}, ejection: {consecutive_failures: 1}}]
` + further))
		require.NoError(t, err)
		eachDuration(reflect.ValueOf(r), "", func(path string, d reflect.Value) {
			seen[path] = true
			before := d.Int()
			for _, wrong := range []time.Duration{1, time.Microsecond, math.MaxInt64} {
				d.SetInt(int64(wrong))
				require.ErrorContains(t, errors.Join(r.normalize()...), fmt.Sprintf("%s: %s, want ", path, wrong))
			}
			d.SetInt(before)
			require.NoError(t, errors.Join(r.normalize()...))
		})
	}
	for _, path := range []string{"timeout", "idle_timeout", "retry.per_try_timeout", "hedge.delay", "balancer.slow_start", "backends[0].pool.idle_timeout", "backends[0].health.timeout"} {
		require.True(t, seen[path], path)
	}
}
