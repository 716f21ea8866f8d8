package mirrors

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/test/testbed"
)

// answer is what a backend says.
type answer struct {
	messages []string
	trailer  metadata.MD
	code     codes.Code
	text     string
}

func (a answer) start(t testing.TB) string {
	return testbed.NewRaw(t, func(s grpcStream) error {
		for {
			if _, err := testbed.Recv(s); err != nil {
				break
			}
		}
		for _, m := range a.messages {
			if err := testbed.Send(s, []byte(m)); err != nil {
				return err
			}
		}
		s.SetTrailer(a.trailer)
		return status.Error(a.code, a.text)
	})
}

func TestCompare_FindsTheDifferenceAndNothingElse(t *testing.T) {
	same := answer{messages: []string{"one", "two"}, trailer: metadata.Pairs("x-a", "1", "x-time", "now"), code: codes.OK}
	for name, c := range map[string]struct {
		change func(*answer)
		want   mirror.Difference // nothing for the same answers
	}{
		"the same":            {func(*answer) {}, mirror.Difference{}},
		"an ignored trailer":  {func(a *answer) { a.trailer = metadata.Pairs("x-a", "1", "x-time", "then") }, mirror.Difference{}},
		"a message":           {func(a *answer) { a.messages = []string{"one", "TWO"} }, mirror.Difference{What: "message", Index: 1, Client: json.RawMessage(`{"length":3,"payload":"dHdv"}`), Got: json.RawMessage(`{"length":3,"payload":"VFdP"}`)}},
		"a message less":      {func(a *answer) { a.messages = []string{"one"} }, mirror.Difference{What: "messages", Client: json.RawMessage(`2`), Got: json.RawMessage(`1`)}},
		"a message more":      {func(a *answer) { a.messages = []string{"one", "two", "three"} }, mirror.Difference{What: "messages", Client: json.RawMessage(`2`), Got: json.RawMessage(`3`)}},
		"a trailer":           {func(a *answer) { a.trailer = metadata.Pairs("x-a", "2", "x-time", "now") }, mirror.Difference{What: "trailer", Name: "x-a", Client: json.RawMessage(`["1"]`), Got: json.RawMessage(`["2"]`)}},
		"a trailer more":      {func(a *answer) { a.trailer = metadata.Pairs("x-a", "1", "x-b", "2") }, mirror.Difference{What: "trailer", Name: "x-b", Client: json.RawMessage(`null`), Got: json.RawMessage(`["2"]`)}},
		"a code":              {func(a *answer) { a.code, a.text = codes.NotFound, "gone" }, mirror.Difference{What: "code", Client: json.RawMessage(`"OK"`), Got: json.RawMessage(`"NOT_FOUND"`)}},
		"a code, no messages": {func(a *answer) { *a = answer{code: codes.Internal} }, mirror.Difference{What: "code", Client: json.RawMessage(`"OK"`), Got: json.RawMessage(`"INTERNAL"`)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := same
			c.change(&other)
			p := testbed.NewProxy(t, route(same.start(t), "frame", shadow(other.start(t), "compare: {ignore: [trailer.x-time]}")))
			cc := testbed.DialGRPC(t, p.Addr)
			const calls = 3
			for range calls {
				_, err := makeCall(within(t), t, cc, "m")
				require.NoError(t, err)
			}
			result := mirror.Same
			if c.want.What != "" {
				result = mirror.Different
			}
			awaitCompared(t, p, result, calls)
			found := p.Differences("shadow")
			if c.want.What == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, calls)
			for _, d := range found {
				require.NotZero(t, d.Time)
				require.Len(t, d.Call, 32)
				require.Equal(t, "all shadow /test.Raw/Call", d.Route+" "+d.Mirror+" "+d.Method)
				require.Equal(t, c.want, mirror.Difference{What: d.What, Name: d.Name, Index: d.Index, Client: d.Client, Got: d.Got})
			}
		})
	}
}

func awaitCompared(t testing.TB, p *testbed.Proxy, want mirror.Result, n int64) {
	t.Helper()
	testbed.Poll(t, func() error {
		got := p.Mirror("shadow").Compared
		if got[want] != n || len(got) != 1 {
			return fmt.Errorf("compared %v, want %d %s", got, n, want)
		}
		return nil
	})
}

// Errors that both backends make alike are the same.
func TestCompare_OfErrors(t *testing.T) {
	t.Parallel()
	failing := answer{code: codes.NotFound, text: "no such thing"}
	p := testbed.NewProxy(t, route(failing.start(t), "frame", shadow(failing.start(t), "compare: {}")))
	_, err := makeCall(within(t), t, testbed.DialGRPC(t, p.Addr), "m")
	requireCode(t, codes.NotFound, err)
	awaitCompared(t, p, mirror.Same, 1)
}

// Nothing is said of answers of which one is framegate's own, or is not there.
func TestCompare_SaysNothingOfWhatItHasNotSeen(t *testing.T) {
	good := answer{messages: []string{"one"}}
	for name, c := range map[string]struct {
		primary, mirror func(t testing.TB) string
		keys            string
	}{
		"a dead mirror":    {good.start, testbed.FreeAddress, ""},
		"a silent mirror":  {good.start, badMirrors["silent"], "timeout: 100ms"},
		"a dead backend":   {testbed.FreeAddress, good.start, ""},
		"too much to hold": {good.start, badMirrors["flooding"], "timeout: 100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testbed.NewProxy(t, route(c.primary(t), "frame", shadow(c.mirror(t), "compare: {}\n"+c.keys)))
			_, _ = makeCall(within(t), t, testbed.DialGRPC(t, p.Addr), "m")
			awaitCompared(t, p, mirror.Incomplete, 1)
			require.Empty(t, p.Differences("shadow"))
		})
	}
}

// With a schema, fields are compared, and those that are ignored are not. What redact rules hide is not kept.
func TestCompare_Fields(t *testing.T) {
	t.Parallel()
	primary, mirrored := newShop(t, ""), newShop(t, "news")
	for name, c := range map[string]struct {
		keys string
		item string
		want mirror.Result
	}{
		"an unknown field": {"compare: {}", "tea", mirror.Different},
	} {
		t.Run(name, func(t *testing.T) {
			p := testbed.NewProxy(t, shopRoute(t, primary.addr, shadow(mirrored.addr, c.keys)))
			buy(t, p, c.item, "gold")
			awaitCompared(t, p, c.want, 1)
		})
	}
	t.Run("ignored", func(t *testing.T) {
		other := newShopPricing(t, func(item string) uint64 { return 1 })
		p := testbed.NewProxy(t, shopRoute(t, primary.addr, shadow(other.addr, "compare: {ignore: [message.cents]}")))
		buy(t, p, "tea", "gold")
		awaitCompared(t, p, mirror.Same, 1)
	})
	t.Run("shown without what is redacted", func(t *testing.T) {
		other := newShopPricing(t, func(item string) uint64 { return 1 })
		p := testbed.NewProxy(t, shopRoute(t, primary.addr, "mode: struct\nstruct: {rules: [{on: response, when: \"false\", action: redact, fields: [item]}]}\n"+shadow(other.addr, "compare: {}")))
		buy(t, p, "tea", "gold")
		awaitCompared(t, p, mirror.Different, 1)
		found := p.Differences("shadow")
		require.JSONEq(t, `{"item":"[REDACTED]","cents":"3"}`, string(found[0].Client))
		require.JSONEq(t, `{"item":"[REDACTED]","cents":"1"}`, string(found[0].Got))
	})
	t.Run("a path that no answer has", func(t *testing.T) {
		require.ErrorContains(t, testbed.RoutesError(t, shopRoute(t, primary.addr, shadow(mirrored.addr, "compare: {ignore: [message.colour]}"))), `mirrors[0].compare.ignore[0]: "message.colour", want a field of an answer of the route's methods`)
	})
	t.Run("a condition that no request fits", func(t *testing.T) {
		require.ErrorContains(t, testbed.RoutesError(t, shopRoute(t, primary.addr, shadow(mirrored.addr, "select: {types: [{when: message.colour == 1}]}"))), `mirrors[0].select.types[0].when: 1:8: undefined field 'colour'`)
		require.ErrorContains(t, testbed.RoutesError(t, shopRoute(t, primary.addr, shadow(mirrored.addr, "select: {types: [{when: message.item}]}"))), `mirrors[0].select.types[0].when: `)
		require.ErrorContains(t, testbed.RoutesError(t, shopRoute(t, primary.addr, shadow(mirrored.addr, "select: {types: [{when: \"message.item ==\"}]}"))), `mirrors[0].select.types[0].when: `)
	})
}
