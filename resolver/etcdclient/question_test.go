package etcdclient

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestAskMembers_GoesOnUntilOneAnswers(t *testing.T) {
	q := Question{Within: 10 * time.Second, Patience: 100 * time.Millisecond, Max: 3}
	for name, c := range map[string]struct {
		answers []any // to each time that it is put: a value, an error, nil for none
		want    any
		asked   int
		after   time.Duration
	}{
		"at once":               {[]any{1}, 1, 1, 0},
		"the second":            {[]any{nil, 2}, 2, 2, 100 * time.Millisecond},
		"the third":             {[]any{nil, io.EOF, 3}, 3, 3, 200 * time.Millisecond},
		"nobody":                {[]any{nil, nil, nil}, context.DeadlineExceeded, 3, 10 * time.Second},
		"all fail":              {[]any{io.EOF, io.EOF, io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF, 3, 200 * time.Millisecond},
		"a refusal is one":      {[]any{nil, rpctypes.ErrPermissionDenied}, rpctypes.ErrPermissionDenied, 2, 100 * time.Millisecond},
		"no leader is no reply": {[]any{rpctypes.ErrNoLeader, 2}, 2, 2, 100 * time.Millisecond},
		"time is over":          {[]any{nil, io.EOF, nil}, io.EOF, 3, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, asked := time.Now(), atomic.Int64{}
				got, err := AskMembers(t.Context(), q, func(ctx context.Context) (int, error) {
					switch a := c.answers[asked.Add(1)-1].(type) {
					case int:
						return a, nil
					case error:
						return 0, a
					}
					<-ctx.Done()
					return 0, ctx.Err()
				})
				if want, ok := c.want.(error); ok {
					require.ErrorIs(t, err, want)
				} else {
					require.NoError(t, err)
					require.Equal(t, c.want, got)
				}
				require.EqualValues(t, c.asked, asked.Load())
				require.Equal(t, c.after, time.Since(began))
			})
		})
	}
}

// One that has failed already is not waited for.
func TestAskMembers_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := AskMembers(ctx, Question{Within: time.Hour, Patience: time.Minute, Max: 3}, func(context.Context) (int, error) { return 0, io.EOF })
		require.ErrorIs(t, err, io.EOF)
	})
}
