package sink

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

func sized(n int) *Event { return &Event{Payload: []byte(strings.Repeat("x", n))} }

func TestQueue_RefusesWhatHasNoRoom(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{Messages: 3, Bytes: 100})
	require.True(t, q.offer(sized(60)))
	require.False(t, q.offer(sized(41)), "over the bytes")
	require.False(t, q.offer(sized(101)), "never fits")
	require.True(t, q.offer(sized(0)))
	require.True(t, q.offer(sized(40)))
	require.False(t, q.offer(sized(0)), "over the messages")
	s := q.snapshot()
	require.Equal(t, []any{3, int64(100)}, []any{s.Waiting, s.WaitingBytes})
	require.Equal(t, map[string]int64{ReasonQueueFull: 2, ReasonTooLarge: 1}, s.Dropped)

	it := q.take()
	require.False(t, q.offer(sized(0)), "what is being sent counts, too")
	q.deliver(it)
	require.True(t, q.offer(sized(60)))
	q.close()
	require.False(t, q.offer(sized(0)))
	s = q.snapshot()
	require.Equal(t, []int64{1, 60, 1}, []int64{s.Delivered, s.DeliveredBytes, s.Dropped[ReasonClosed]})
}

func TestQueue_MetadataTakesRoom(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{Bytes: 100})
	require.True(t, q.offer(&Event{Metadata: map[string][]string{"a": {"bc", "d"}}, Payload: []byte("efg")}))
	require.Equal(t, int64(7), q.snapshot().WaitingBytes)
}

// A record may be larger than what it is made of: then less is sent at once, and nothing is accepted until there is room again.
func TestQueue_SendsAtMostHalfOfItsBytesAtOnce(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{Messages: 100, Bytes: 1000})
	for range 10 {
		require.True(t, q.offer(sized(100)))
	}
	sent := []*item{}
	for it := q.take(); it != nil; it = q.take() {
		q.resize(it, 200)
		sent = append(sent, it)
	}
	require.Len(t, sent, 3, "200 + 200 are below 500 - 100")
	require.Equal(t, int64(1300), q.snapshot().WaitingBytes)
	require.False(t, q.offer(sized(1)))
	for _, it := range sent {
		q.deliver(it)
	}
	require.True(t, q.offer(sized(300)))
	require.False(t, q.offer(sized(1)))
	it := q.take()
	q.resize(it, 5000)
	require.Nil(t, q.take())
	q.deliver(it)
	require.NotNil(t, q.take(), "one is always sent, however large")
}

// A server that refuses everything for a time must not make records of all that waits.
func TestQueue_RecordsAreMadeOfNoMoreThanIsSentAtOnce(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{Messages: 100, Bytes: 1000})
	for q.offer(sized(20)) {
	}
	records := map[*item]bool{}
	for range 20 {
		var sent []*item
		for it := q.take(); it != nil; it = q.take() {
			if !records[it] {
				records[it] = true
				q.resize(it, 60)
			}
			sent = append(sent, it)
		}
		for _, it := range sent {
			q.giveBackNext(it)
		}
	}
	require.LessOrEqual(t, q.snapshot().WaitingBytes, int64(1000+500+60))
	require.LessOrEqual(t, len(records), 500/60+1)
	for i := range 50 {
		it := q.take()
		require.Equal(t, i < len(records), records[it], "those that have a record come first")
		q.deliver(it)
	}
	require.Nil(t, q.take())
}

func TestQueue_KeepsTheOrderOfWhatIsGivenBackFirst(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{})
	for range 4 {
		q.offer(sized(1))
	}
	a, b := q.take(), q.take()
	q.giveBackFirst([]*item{a, b})
	c := q.take()
	q.giveBack(c)
	var numbers []uint64
	for it := q.take(); it != nil; it = q.take() {
		numbers = append(numbers, it.number)
	}
	require.Equal(t, []uint64{2, 3, 4, 1}, numbers)
}

func TestQueue_LagIsTheAgeOfTheOldestThatIsNotDelivered(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{})
	require.Zero(t, q.snapshot().Lag)
	q.offer(sized(1))
	time.Sleep(20 * time.Millisecond)
	q.offer(sized(1))
	a, b := q.take(), q.take()
	q.deliver(b)
	require.GreaterOrEqual(t, q.snapshot().Lag, 20*time.Millisecond)
	q.giveBack(a)
	require.GreaterOrEqual(t, q.snapshot().Lag, 20*time.Millisecond)
	q.deliver(q.take())
	require.Zero(t, q.snapshot().Lag)
}

func TestQueue_GathersUntilHalfIsThereOrTheTimeIsOver(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{Messages: 4})
	ctx := t.Context()
	q.offer(sized(1))
	begin := time.Now()
	require.True(t, q.gather(ctx, 20*time.Millisecond))
	require.GreaterOrEqual(t, time.Since(begin), 20*time.Millisecond)

	gathered := make(chan bool, 1)
	go func() { gathered <- q.gather(ctx, time.Hour) }()
	q.offer(sized(1))
	require.True(t, <-gathered, "half of it")

	q.take()
	q.drop(q.take(), ReasonRejected)
	q.offer(sized(1))
	go func() { gathered <- q.gather(ctx, time.Hour) }()
	q.close()
	require.True(t, <-gathered, "closed with something to take")
	q.deliver(q.take())
	go func() { gathered <- q.gather(ctx, time.Hour) }()
	select {
	case <-gathered:
		require.Fail(t, "something is still being sent")
	case <-time.After(20 * time.Millisecond):
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.False(t, q.gather(ended, time.Hour))
}

// Whatever several goroutines do, the counts add up and the bounds hold.
func TestQueue_CountsAddUp(t *testing.T) {
	t.Parallel()
	const offers, goroutines = 2000, 4
	q := newQueue(spec.Queue{Messages: 50, Bytes: 2000})
	var callers, promises sync.WaitGroup
	for range goroutines {
		callers.Go(func() {
			for range offers {
				q.offer(sized(rand.IntN(120)))
			}
		})
	}
	go func() { callers.Wait(); q.close() }()
	for q.gather(t.Context(), time.Microsecond) {
		s := q.snapshot()
		require.LessOrEqual(t, s.Waiting, 50)
		require.LessOrEqual(t, s.WaitingBytes, int64(2000))
		for it := q.take(); it != nil; it = q.take() {
			promises.Go(func() {
				switch rand.IntN(5) {
				case 0:
					q.drop(it, ReasonRejected)
				case 1:
					q.giveBackNext(it)
				case 4:
					q.giveBack(it)
				case 2:
					q.giveBackFirst([]*item{it})
				default:
					q.deliver(it)
				}
			})
		}
	}
	promises.Wait()
	s := q.snapshot()
	require.Equal(t, []any{0, int64(0), time.Duration(0)}, []any{s.Waiting, s.WaitingBytes, s.Lag})
	require.EqualValues(t, offers*goroutines, s.Delivered+s.Dropped[ReasonRejected]+s.Dropped[ReasonQueueFull])
	require.Positive(t, s.Delivered)
	require.Nil(t, q.oldest)
	require.Equal(t, []fifo{{}, {}}, []fifo{q.again, q.ready})
}

func TestQueue_DropsWhatIsReadyWhenItIsClosed(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{})
	for range 5 {
		q.offer(sized(1))
	}
	it := q.take()
	q.close()
	q.dropReady()
	require.Equal(t, 1, q.snapshot().Waiting)
	q.deliver(it)
	s := q.snapshot()
	require.Equal(t, []int64{4, 1, 0, 0}, []int64{s.Dropped[ReasonClosed], s.Delivered, int64(s.Waiting), s.WaitingBytes})
}

func TestQueue_BlamesAnItemOnlyIfOthersAreDelivered(t *testing.T) {
	t.Parallel()
	q := newQueue(spec.Queue{})
	q.offer(sized(1))
	it := q.take()
	for range 10 * maxTries {
		require.False(t, q.blame(it), "the server fails at everything")
	}
	for i := range maxTries - 1 {
		q.offer(sized(1))
		q.deliver(q.take())
		require.Equal(t, i == maxTries-2, q.blame(it))
	}
}

func BenchmarkOffer(b *testing.B) {
	q, e := newQueue(spec.Queue{Messages: 1_000_000, Bytes: 1 << 30}), ordinary()
	b.ReportAllocs()
	for b.Loop() {
		q.offer(e)
	}
}
