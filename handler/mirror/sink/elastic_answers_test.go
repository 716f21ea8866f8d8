package sink

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testlog"
)

// Each of these is a failure of a whole request that passes.
func TestElastic_SendsAgainWhatFailedForATime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reply    reply
		want     string // in the reason
		conflict int
	}{
		"429":               {reply{status: 429, body: wholeError(429, "es_rejected_execution_exception")}, "status 429 Too Many Requests: ", 0},
		"503":               {reply{status: 503, body: "no healthy upstream"}, "status 503 Service Unavailable: no healthy upstream", 0},
		"401":               {reply{status: 401, body: wholeError(401, "security_exception")}, "security_exception", 0},
		"404":               {reply{status: 404, body: wholeError(404, "index_not_found_exception")}, "index_not_found_exception", 0},
		"302":               {reply{status: 302}, "status 302 Found", 0},
		"reset":             {reply{reset: true}, "connection reset", 0},
		"reset, but done":   {reply{reset: true, indexed: true}, "connection reset", 100},
		"timeout, but done": {reply{delay: 2 * time.Second}, "context deadline exceeded", 100},
		"broken JSON":       {reply{body: `{"took":1,"items":[{"create":`}, "unexpected EOF", 100},
		"no JSON":           {reply{body: `<html>`}, "invalid character", 100},
		"too few answers":   {reply{body: `{"items":[{"create":{"status":201}}]}`}, "one answer for each record: 1 for 100", 100},
		"too many answers":  {reply{body: `{"items":[` + strings.Repeat(`{"create":{"status":201}},`, 100) + `{"create":{"status":201}}]}`}, "101 for 100", 100},
		"another action":    {reply{body: `{"items":[` + strings.Repeat(`{"index":{"status":201}},`, 99) + `{"index":{"status":201}}]}`}, "one answer for each", 100},
		"no status":         {reply{body: `{"items":[` + strings.Repeat(`{"create":{}},`, 99) + `{"create":{}}]}`}, "one answer for each", 100},
		"too long":          {reply{body: `{"x":"` + strings.Repeat("x", 1<<20) + `","items":[` + strings.Repeat(`{"create":{"status":201}},`, 99) + `{"create":{"status":201}}]}`}, "unexpected EOF", 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			x := startPlain(t, func(request int, _ []string) reply {
				if request == 1 {
					return c.reply
				}
				<-hold // so that the failure is seen
				return reply{}
			})
			s, err := newElastic(x.doc(), Config{Queue: spec.Queue{Messages: 200}}, time.Second)
			require.NoError(t, err)
			closing(t, s)
			offerAll(t, s, 100)
			st := down(t, s, c.want)
			require.Equal(t, []any{100, int64(0)}, []any{st.Waiting, st.Delivered})
			close(hold)
			st = settled(t, s)
			require.Equal(t, []any{StateUp, int64(100)}, []any{st.State, st.Delivered})
			require.Empty(t, st.Dropped)
			require.Equal(t, callIDs(100), x.calls(), "in order, each once")
			require.Equal(t, c.conflict, x.conflict)
		})
	}
}

// The bulk indexer of the client gives up single documents that got 429. These are sent again, without those that were taken.
func TestElastic_SendsSingleRecordsAgain(t *testing.T) {
	t.Parallel()
	x := startPlain(t, func(request int, docs []string) reply {
		p := reply{items: map[string]failed{}}
		for i, id := range docs {
			switch {
			case request == 1 && i%3 == 0:
				p.items[id] = failed{429, "es_rejected_execution_exception"}
			case request == 1 && i%3 == 1:
				p.items[id] = failed{503, "unavailable_shards_exception"}
			case request == 2 && i%2 == 0:
				p.items[id] = failed{404, "index_not_found_exception"}
			case request == 3 && i%2 == 0:
				p.items[id] = failed{403, "cluster_block_exception"}
			}
		}
		return p
	})
	s := newTestElastic(t, x.doc(), Config{Queue: spec.Queue{Messages: 200}})
	offerAll(t, s, 100)
	st := settled(t, s)
	require.EqualValues(t, 100, st.Delivered)
	require.Empty(t, st.Dropped)
	require.Equal(t, []int{100, 67, 34, 17}, x.requests())
	require.Zero(t, x.conflict)
	ids := x.calls()
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), 100)
}

func TestElastic_IsDownWhileEachRecordIsRefusedForATime(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	x := startPlain(t, func(request int, docs []string) reply {
		p := reply{items: map[string]failed{}}
		if request > 1 {
			<-hold
			return p
		}
		for _, id := range docs {
			p.items[id] = failed{404, "index_not_found_exception"}
		}
		return p
	})
	s := newTestElastic(t, x.doc(), Config{})
	offerAll(t, s, 10)
	down(t, s, "status 404: index_not_found_exception: document of call ")
	close(hold)
	require.EqualValues(t, 10, settled(t, s).Delivered)
}

func TestElastic_DropsWhatTheServerRefusesForGood(t *testing.T) {
	t.Parallel()
	x := startPlain(t, func(_ int, docs []string) reply {
		return reply{items: map[string]failed{"3": {400, "mapper_parsing_exception"}, "5": {413, "x"}}}
	})
	var log testlog.Buffer
	s := newTestElastic(t, x.doc(), Config{Log: log.Logger(), Name: "tape"})
	offerAll(t, s, 10)
	st := settled(t, s)
	require.Equal(t, map[string]int64{ReasonRejected: 2}, st.Dropped)
	require.Equal(t, []any{int64(8), StateUp}, []any{st.Delivered, st.State})
	require.Equal(t, 1, log.Count(`mirror=tape kind=elasticsearch reason=rejected error="status 400: mapper_parsing_exception: document of call 3"`), log.String())
}

// A server that fails at one record and at no other does not get it for ever.
func TestElastic_GivesUpARecordThatTheServerFailsAt(t *testing.T) {
	t.Parallel()
	x := startPlain(t, func(int, []string) reply {
		return reply{items: map[string]failed{"1": {500, "null_pointer_exception"}}}
	})
	s := newTestElastic(t, x.doc(), Config{})
	for i := 1; s.Stats().Dropped[ReasonFailed] == 0; i++ {
		require.True(t, s.Offer(numbered(i)))
		eventually(t, s, func(st Stats) bool { return st.Waiting <= 1 })
	}
	st := s.Stats()
	require.EqualValues(t, len(x.calls()), st.Delivered)
	require.Len(t, x.requests(), maxTries)
}

// One record for which a server refuses the whole request is found, and the others are delivered.
func TestElastic_FindsTheRecordForWhichARequestIsRefused(t *testing.T) {
	t.Parallel()
	for reason, status := range map[string]int{ReasonRejected: http.StatusBadRequest, ReasonTooLarge: http.StatusRequestEntityTooLarge} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			x := startPlain(t, func(_ int, docs []string) reply {
				if slices.Contains(docs, "17") {
					return reply{status: status, body: wholeError(status, "x")}
				}
				return reply{}
			})
			s := newTestElastic(t, x.doc(), Config{})
			offerAll(t, s, 100)
			st := settled(t, s)
			require.Equal(t, map[string]int64{reason: 1}, st.Dropped)
			require.Equal(t, slices.DeleteFunc(callIDs(100), func(id string) bool { return id == "17" }), x.calls())
		})
	}
}
