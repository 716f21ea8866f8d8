package mirrors

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

// Which messages of a request with a message of each of the types 0 to 3 the mirror gets.
func TestSelect_TruthTable(t *testing.T) {
	for name, c := range map[string]struct {
		keys string
		want []uint64
	}{
		"no select":              {"", []uint64{0, 1, 2, 3}},
		"only one":               {`select: {contains: true, types: [{field: "1", equals: 2}]}`, []uint64{2}},
		"only, by default":       {`select: {types: [{field: "1", equals: 2}]}`, []uint64{2}},
		"only some":              {`select: {contains: true, types: [{field: "1", equals: 2}, {field: "1", equals: 3}]}`, []uint64{2, 3}},
		"only what is not there": {`select: {contains: true, types: [{field: "1", equals: 9}]}`, nil},
		"all but one":            {`select: {contains: false, types: [{field: "1", equals: 2}]}`, []uint64{0, 1, 3}},
		"all but some":           {`select: {contains: false, types: [{field: "1", equals: 2}, {field: "1", equals: 0}]}`, []uint64{1, 3}},
		"all but none":           {`select: {contains: false, types: [{field: "1", equals: 9}]}`, []uint64{0, 1, 2, 3}},
		"all but all":            {`select: {contains: false, types: [{field: "9", equals: ""}]}`, nil},
		"by text":                {`select: {types: [{field: "2", equals: m3}]}`, []uint64{3}},
		"by a missing field":     {`select: {types: [{field: "9", equals: 0}]}`, []uint64{0, 1, 2, 3}},
		"by truth":               {`select: {types: [{field: "1", equals: false}]}`, []uint64{0}},
	} {
		for _, mode := range []string{"frame", "struct"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				primary, mirror := newReceiver(t), newReceiver(t)
				p := testbed.NewProxy(t, route(primary.addr, mode, shadow(mirror.addr, c.keys)))
				var all, want []string
				for i := range uint64(4) {
					all = append(all, typed(i, fmt.Sprint("m", i)))
				}
				for _, i := range c.want {
					want = append(want, all[i])
				}
				answer, err := makeCall(within(t), t, testbed.DialGRPC(t, p.Addr), all...)
				require.NoError(t, err)
				require.Equal(t, all, answer)
				require.Equal(t, all, primary.await(t).messages)
				if want == nil {
					require.Zero(t, p.Mirror("shadow").Calls)
					mirror.none(t)
					return
				}
				require.Equal(t, want, mirror.await(t).messages)
			})
		}
	}
}

// The route's selection leaves messages out for the backend, not for the mirror.
func TestSelect_OfTheBackend(t *testing.T) {
	t.Parallel()
	primary, mirror := newReceiver(t), newReceiver(t)
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(mirror.addr, "")+`select: {contains: false, types: [{field: "1", equals: 2}]}`))
	cc := testbed.DialGRPC(t, p.Addr)
	one, two, three := typed(1, "a"), typed(2, "b"), typed(3, "c")
	answer, err := makeCall(within(t), t, cc, two, one, two, three)
	require.NoError(t, err)
	require.Equal(t, []string{one, three}, answer)
	require.Equal(t, []string{one, three}, primary.await(t).messages)
	require.Equal(t, []string{two, one, two, three}, mirror.await(t).messages)
}

// What the backend is left out of comes to a mirror while the request goes on, not when the backend gets its first message.
func TestSelect_MirrorsDoNotWaitForTheBackend(t *testing.T) {
	t.Parallel()
	primary, mirror, dir := newReceiver(t), newReceiver(t), t.TempDir()
	p := testbed.NewProxy(t, route(primary.addr, "frame", fmt.Sprintf(`select: {contains: false, types: [{field: "1", equals: 2}]}
mirrors: [{name: shadow, backend: {endpoints: [{address: %q}]}}, {name: tape, record: {path: %q}}]`, mirror.addr, dir)))
	s, err := testbed.Call(within(t), testbed.DialGRPC(t, p.Addr))
	require.NoError(t, err)
	require.NoError(t, testbed.Send(s, []byte(typed(2, "first"))))
	testbed.Await(t, mirror.began, "the first message at the mirror")
	testbed.Poll(t, func() error {
		if st := p.Mirror("tape"); st.Messages != 1 {
			return fmt.Errorf("%d messages are recorded, want 1", st.Messages)
		}
		return nil
	})
	require.NoError(t, testbed.Send(s, []byte(typed(1, "second"))))
	got, err := testbed.Recv(s)
	require.NoError(t, err)
	require.Equal(t, typed(1, "second"), string(got))
	require.NoError(t, s.CloseSend())
	require.Equal(t, []string{typed(2, "first"), typed(1, "second")}, mirror.await(t).messages)
	require.Equal(t, []string{typed(1, "second")}, primary.await(t).messages)
}

// A condition in CEL is on what the schema makes of the message.
func TestSelect_ByCondition(t *testing.T) {
	t.Parallel()
	primary, mirror := newShop(t, "primary"), newShop(t, "mirror")
	p := testbed.NewProxy(t, shopRoute(t, primary.addr, shadow(mirror.addr, `select: {types: [{when: 'message.item == "tea" && metadata["x-tenant"] == "gold"'}]}`)))
	buy(t, p, "coffee", "gold")
	buy(t, p, "tea", "silver")
	buy(t, p, "tea", "gold")
	require.Equal(t, "tea", testbed.Await(t, mirror.items, "an order at the mirror"))
	testbed.Poll(t, func() error {
		if st := p.Mirror("shadow"); st.Active != 0 {
			return fmt.Errorf("%d copies are under way", st.Active)
		}
		return nil
	})
	require.EqualValues(t, 1, p.Mirror("shadow").Calls)
}
