package structmode

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/budget"
)

// endsAt is a context that has ended when it is asked for the n-th time.
type endsAt struct {
	context.Context
	n, asked int
}

func (c *endsAt) Err() error {
	if c.asked++; c.asked >= c.n {
		return context.Canceled
	}
	return nil
}

// A rule that stops because nobody waits for it any more says nothing of the message.
func TestStruct_CallThatEndsWhileRulesRunEndsAsItDid(t *testing.T) {
	s, msg := twentyFields(t)
	const rule = `when: '[1, 2, 3, 4, 5, 6, 7, 8, 9].exists(a, [1, 2, 3, 4, 5, 6, 7, 8, 9].exists(b, message.n1 == a + b))', action: reject`
	ctx := &endsAt{Context: t.Context(), n: 1 << 30}
	d := fieldsDirection(t, ctx, s, rule)
	_, forward, err := d.TakeMessage(0, msg)
	require.NoError(t, err)
	require.True(t, forward)
	require.Greater(t, ctx.asked, 10)
	for n := range ctx.asked {
		_, forward, err := fieldsDirection(t, &endsAt{Context: t.Context(), n: n}, s, rule).TakeMessage(0, msg)
		require.ErrorIs(t, err, budget.ErrEnded)
		require.False(t, forward)
	}
}
