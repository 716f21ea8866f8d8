package sink

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testlog"
)

// nobody returns an address that refuses connections.
func nobody(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	return ln.Addr().String()
}

// ids returns the ids of what is in the topic.
func (b *brokers) ids(t testing.TB, n int) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, r := range b.consume(t, n) {
		all[decode(t, r.Value).ID] = true
	}
	return all
}

func TestKafka_IsDownBeforeTheFirstEventIfNobodyIsThere(t *testing.T) {
	t.Parallel()
	var log testlog.Buffer
	s := newTestKafka(t, &spec.Kafka{Brokers: []string{nobody(t), nobody(t)}, Topic: "t"}, Config{Name: "tape", Log: log.Logger()})
	down(t, s, "connection refused")
	time.Sleep(time.Second) // for more attempts
	require.Equal(t, 1, log.Count("mirror=tape"), log.String())

	begin := time.Now()
	s.Close(context.Background())
	require.Less(t, time.Since(begin), patience/2, "there is nothing to wait for")
}

func TestKafka_CloseEndsWithItsContextIfNobodyIsThere(t *testing.T) {
	t.Parallel()
	s := newTestKafka(t, &spec.Kafka{Brokers: []string{nobody(t)}, Topic: "t"}, Config{})
	offerAll(t, s, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	s.Close(ctx)
	require.Error(t, ctx.Err(), "it waits as long as it may")
	st := s.Stats()
	require.Equal(t, []any{0, int64(0), int64(0)}, []any{st.Waiting, st.WaitingBytes, st.Delivered})
	require.Equal(t, map[string]int64{ReasonClosed: 100}, st.Dropped)
}

// slowest returns the longest time that one of n offers took, and how many were accepted.
func slowest(s Sink, n int) (longest time.Duration, accepted int) {
	for i := range n {
		e := numbered(i)
		begin := time.Now()
		if s.Offer(e) {
			accepted++
		}
		longest = max(longest, time.Since(begin))
	}
	return longest, accepted
}

func TestKafka_ABrokerThatIsGoneLosesNothingThatFitted(t *testing.T) {
	t.Parallel()
	for _, acks := range []spec.KafkaAcks{spec.AcksAll, spec.AcksLeader} {
		t.Run(string(acks), func(t *testing.T) {
			t.Parallel()
			b := startBrokers(t, 1, 2)
			doc := b.doc()
			doc.Acks = acks
			s := newTestKafka(t, doc, Config{Queue: spec.Queue{Messages: 500}})
			require.True(t, s.Offer(numbered(-1)))
			settled(t, s)
			b.gates[0].shut()
			longest, accepted := slowest(s, 20_000)
			require.Equal(t, 500, accepted)
			require.Less(t, longest, time.Second, "on a machine that does other things, too")
			st := down(t, s, "connection refused")
			require.Equal(t, 500, st.Waiting)
			require.LessOrEqual(t, st.WaitingBytes, int64(spec.DefaultQueueBytes)*3/2)
			require.EqualValues(t, 19_500, st.Dropped[ReasonQueueFull])
			lag := s.Stats().Lag
			require.Positive(t, lag)

			b.gates[0].open(t)
			st = settled(t, s)
			require.Equal(t, []any{StateUp, int64(501)}, []any{st.State, st.Delivered})
			ids := b.ids(t, 501)
			for i := range 500 {
				require.True(t, ids[fmt.Sprint(i)], i)
			}
		})
	}
}

// The connections end again and again while records are sent: each arrives, and once.
func TestKafka_ABrokerThatComesAndGoesGetsEachRecordOnce(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 2)
	s := newTestKafka(t, b.doc(), Config{Queue: spec.Queue{Messages: 10_000, Bytes: 16 << 20}})
	const n = 3000
	var offers sync.WaitGroup
	offers.Go(func() {
		for i := range n {
			s.Offer(numbered(i))
			if i%10 == 0 {
				time.Sleep(2 * time.Millisecond)
			}
		}
	})
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		b.gates[0].shut()
		time.Sleep(50 * time.Millisecond)
		b.gates[0].open(t)
	}
	offers.Wait()
	require.EqualValues(t, n, settled(t, s).Delivered)
	require.Len(t, b.ids(t, n), n)
}

func TestKafka_FollowsALeaderThatMoves(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 2, 1)
	s := newTestKafka(t, b.doc(), Config{Queue: spec.Queue{Messages: 10_000, Bytes: 16 << 20}})
	const n = 1000
	leader := func() int32 { return b.PartitionInfo("t", 0).Leader }
	for i := range n {
		require.True(t, s.Offer(numbered(i)))
		if i%250 == 100 {
			require.EqualValues(t, i+1, settled(t, s).Delivered)
			require.NoError(t, b.MoveTopicPartition("t", 0, 1-leader()))
		}
	}
	require.EqualValues(t, n, settled(t, s).Delivered)
	require.Len(t, b.ids(t, n), n)
}

// The topic is created by whoever is in charge of it, not by framegate, and what waits meanwhile is delivered.
func TestKafka_WaitsForATopicThatThereIsNot(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 0)
	s := newTestKafka(t, b.doc(), Config{})
	down(t, s, "topic t: UNKNOWN_TOPIC_OR_PARTITION")
	offerAll(t, s, 10)
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, 10, s.Stats().Waiting)
	require.Nil(t, b.TopicInfo("t"))
	b.createTopic(t)
	require.EqualValues(t, 10, settled(t, s).Delivered)
	require.Equal(t, StateUp, s.Stats().State)
	b.consume(t, 10)
}

func TestKafka_TriesAgainWhatIsTemporary(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  *kerr.Error
		want string // in the reason of the state; "" if it may be too short to be seen
	}{
		{kerr.NotEnoughReplicas, "nothing delivered for 3s"}, // the client tries again and does not say so
		{kerr.NotLeaderForPartition, ""},
		{kerr.TopicAuthorizationFailed, "TOPIC_AUTHORIZATION_FAILED"}, // the client gives up
		{kerr.ClusterAuthorizationFailed, "CLUSTER_AUTHORIZATION_FAILED"},
		{kerr.UnknownTopicOrPartition, ""},
		{kerr.UnknownServerError, "UNKNOWN_SERVER_ERROR"},
	} {
		t.Run(c.err.Message, func(t *testing.T) {
			t.Parallel()
			b := startBrokers(t, 1, 1)
			stop := b.failProduces(c.err.Code)
			doc := b.doc()
			if c.err == kerr.UnknownServerError {
				doc.Acks = spec.AcksLeader // kfake does not know the next epoch of an idempotent producer, which the client begins
			}
			s := newTestKafka(t, doc, Config{})
			offerAll(t, s, 10)
			if c.want != "" {
				down(t, s, c.want)
			} else {
				time.Sleep(300 * time.Millisecond)
			}
			st := s.Stats()
			require.Equal(t, []any{10, int64(0)}, []any{st.Waiting, st.Delivered})
			stop()
			st = settled(t, s)
			require.Equal(t, []any{StateUp, int64(10)}, []any{st.State, st.Delivered})
			require.Empty(t, st.Dropped)
			require.Len(t, b.ids(t, 10), 10)
		})
	}
}

// A broker refuses a batch, but only the record that is the cause is lost.
func TestKafka_DropsWhatTheBrokerRefusesForGood(t *testing.T) {
	t.Parallel()
	for reason, err := range map[string]*kerr.Error{
		ReasonTooLarge: kerr.MessageTooLarge, ReasonRejected: kerr.InvalidRecord, ReasonFailed: kerr.UnknownServerError,
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			b := startBrokers(t, 1, 1)
			b.answerProduces(func(batch *kmsg.RecordBatch) int16 {
				if bytes.Contains(plainRecords(batch), []byte(`"id":"17"`)) {
					return err.Code
				}
				return 0
			})
			var log testlog.Buffer
			doc := b.doc()
			doc.Acks = spec.AcksLeader // kfake does not know the next epoch of an idempotent producer, which the client begins
			s := newTestKafka(t, doc, Config{Log: log.Logger()})
			const n = 100
			offerAll(t, s, n)
			st := eventually(t, s, func(st Stats) bool { return st.Delivered == n-1 })
			more := 0
			for ; st.Dropped[reason] == 0; more++ { // a server that takes no other records gets this one for ever
				require.True(t, s.Offer(numbered(n+more)))
				st = eventually(t, s, func(st Stats) bool { return st.Delivered == int64(n+more) })
			}
			require.Equal(t, map[string]int64{reason: 1}, settled(t, s).Dropped)
			require.Equal(t, 1, log.Count("mirror dropped a record"), log.String())
			ids := b.ids(t, n-1+more)
			require.Len(t, ids, n-1+more)
			require.NotContains(t, ids, "17")
		})
	}
}

// A topic may take smaller batches than the client makes.
func TestKafka_SendsSmallerBatchesToATopicThatWantsThem(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 1)
	b.answerProduces(func(batch *kmsg.RecordBatch) int16 {
		if batch.NumRecords > 30 {
			return kerr.MessageTooLarge.Code
		}
		return 0
	})
	doc := b.doc()
	doc.Acks = spec.AcksLeader
	s := newTestKafka(t, doc, Config{})
	offerAll(t, s, 1000)
	st := settled(t, s)
	require.EqualValues(t, 1000, st.Delivered)
	require.Empty(t, st.Dropped)
	require.Len(t, b.ids(t, 1000), 1000)
}

// An idempotent producer needs an id. Without one the client fails all that it has.
func TestKafka_WaitsForAProducerID(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 1)
	var refused atomic.Int64
	b.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		if refused.Add(1) > 3 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp, nil, true
	})
	s := newTestKafka(t, b.doc(), Config{})
	offerAll(t, s, 10)
	down(t, s, "CLUSTER_AUTHORIZATION_FAILED")
	require.EqualValues(t, 10, settled(t, s).Delivered)
	b.consume(t, 10)
}

// A broker that takes connections and answers nothing.
func TestKafka_ASilentBrokerHoldsNobody(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	s := newTestKafka(t, &spec.Kafka{Brokers: []string{ln.Addr().String()}, Topic: "t"}, Config{Queue: spec.Queue{Messages: 10}})
	longest, accepted := slowest(s, 10_000)
	require.Equal(t, 10, accepted)
	require.Less(t, longest, time.Second)
	down(t, s, "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	s.Close(ctx)
	require.Less(t, time.Since(begin), 10*time.Second)
	require.EqualValues(t, 10, s.Stats().Dropped[ReasonClosed])
}
