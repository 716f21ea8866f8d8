package sink

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/framegate/framegate/resolver/spec"
)

const (
	// kafkaLinger is how long a message waits for others that are sent with it.
	kafkaLinger = 10 * time.Millisecond
	// kafkaMetadataAge is the least time between two questions where partitions are: how soon a moved leader is found.
	kafkaMetadataAge = time.Second
	// maxKafkaBytes bounds key and value of a record: more does not fit into a batch of the client, nor, as it is configured
	// usually, of a broker (max.message.bytes, 1,048,588).
	maxKafkaBytes = 1_000_000 - 100
)

// kafka is a Sink that produces to a topic.
//
// One goroutine (run) makes records of what is in the queue and gives them to the client, whose own goroutines send them and
// call settle. The client tries again what it knows to be temporary, for ever; what it gives up nevertheless goes back into the
// queue if it is worth trying, and then to a new client: after some errors, such as one about its producer's id, a client
// never delivers anything again. Another goroutine (watch, in kafka_watch.go) finds out why nothing is delivered.
type kafka struct {
	key     string // of the document
	options []kgo.Opt
	queue   *queue
	state   *state
	encode  *encoder // owned by run
	client  atomic.Pointer[kgo.Client]
	watch   *watch
	pace    pace

	ctx  context.Context // ends when nothing is to be tried any more
	stop context.CancelFunc
	wait sync.WaitGroup // for run and watch
	done chan struct{}  // closed when all goroutines have ended
	once sync.Once      // starts end
}

// NewKafka returns a sink for a valid doc. It begins to connect, but needs no broker: an error says that the client cannot be
// configured so.
func NewKafka(doc *spec.Kafka, cfg Config) (Sink, error) {
	k := &kafka{
		key: doc.Key, queue: newQueue(cfg.Queue), state: newState(cfg, "kafka"), encode: newEncoder(doc.Redact),
		done: make(chan struct{}),
	}
	k.watch = newWatch(k.queue, k.state, doc.Topic)
	opts, err := kafkaOptions(doc)
	if err != nil {
		return nil, err
	}
	k.options = append(opts, kgo.WithHooks(k.watch), kgo.WithLogger(k.watch))
	client, err := kgo.NewClient(k.options...)
	if err != nil {
		return nil, err
	}
	k.client.Store(client)
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.wait.Go(k.run)
	k.wait.Go(func() { k.watch.run(k.ctx, k.client.Load) })
	return k, nil
}

// kafkaOptions returns the client's options for doc.
func kafkaOptions(doc *spec.Kafka) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.ClientID("framegate"),
		kgo.SeedBrokers(doc.Brokers...),
		kgo.Dialer(dialer{doc.TLS}.dial),
		kgo.DefaultProduceTopic(doc.Topic),
		kgo.MaxBufferedRecords(1 << 30), // the queue has the bound: over one of its own the client blocks or fails
		kgo.ProducerLinger(0),           // run waits, so that little wakes it
		kgo.UnknownTopicRetries(-1),     // it may be created
		kgo.MetadataMinAge(kafkaMetadataAge),
		kgo.DisableClientMetrics(),
	}
	switch doc.Acks {
	case spec.AcksLeader: // only with all of them may a producer be idempotent
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case spec.AcksNone:
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks()))
	}
	if doc.SASL != nil {
		m, err := saslMechanism(doc.SASL)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

// saslMechanism returns a mechanism that reads the password's file for each connection.
func saslMechanism(doc *spec.SASL) (sasl.Mechanism, error) {
	scramAuth := func(context.Context) (scram.Auth, error) {
		pass, err := readSecret(doc.PasswordFile)
		return scram.Auth{User: doc.Username, Pass: pass}, err
	}
	switch doc.Mechanism {
	case spec.SASLPlain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := readSecret(doc.PasswordFile)
			return plain.Auth{User: doc.Username, Pass: pass}, err
		}), nil
	case spec.SASLScramSHA256:
		return scram.Sha256(scramAuth), nil
	case spec.SASLScramSHA512:
		return scram.Sha512(scramAuth), nil
	}
	return nil, errors.New("sasl.mechanism: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
}

// Offer implements Sink.
func (k *kafka) Offer(e *Event) bool { return k.queue.offer(e) }

// Stats implements Sink.
func (k *kafka) Stats() Stats {
	s := k.queue.snapshot()
	s.State, s.Error = k.state.get()
	return s
}

// Close implements Sink.
func (k *kafka) Close(ctx context.Context) {
	k.queue.close()
	k.once.Do(func() { go k.end() })
	select {
	case <-k.done:
	case <-ctx.Done():
		k.stop()
		<-k.done
	}
}

// end waits until run has ended, and then ends the rest.
func (k *kafka) end() {
	defer close(k.done)
	k.wait.Wait()
	k.client.Load().Close()              // settles what it has
	for k.queue.snapshot().Waiting > 0 { // the client's last promises come from a goroutine of its own
		k.queue.dropReady()
		select {
		case <-k.queue.some:
		case <-time.After(time.Millisecond):
		}
	}
}

// run gives records to the client until the queue is closed and empty, or ctx ends.
func (k *kafka) run() {
	defer k.stop()
	var scratch []byte
	for k.queue.gather(k.ctx, kafkaLinger) {
		if d, happened := k.pace.setback(); happened {
			k.renew()
			sleep(k.ctx, d)
			continue
		}
		limit := k.pace.begin()
		if limit < maxBatch && !k.drained() {
			return
		}
		for n := 0; n < limit && k.ctx.Err() == nil && !k.pace.disturbed(); n++ {
			it := k.queue.take()
			if it == nil {
				break
			}
			if e := it.event; e != nil {
				scratch = k.encode.append(spare(scratch), e)
				it.key, it.value, it.at = k.recordKey(e), bytes.Clone(scratch), e.Time
				k.queue.resize(it, int64(len(it.key)+len(it.value)))
				it.event = nil
			}
			it.alone = limit == 1
			k.produce(it)
		}
		if limit < maxBatch && !k.drained() {
			return
		}
	}
}

// drained waits until nothing is being sent. It returns false if ctx ends before.
func (k *kafka) drained() bool {
	for k.queue.sent() > 0 {
		select {
		case <-k.queue.some:
		case <-k.ctx.Done():
			return false
		}
	}
	return true
}

func (k *kafka) produce(it *item) {
	if len(it.key)+len(it.value) > maxKafkaBytes {
		k.drop(it, ReasonTooLarge, kerr.MessageTooLarge)
		return
	}
	r := &kgo.Record{Key: it.key, Value: it.value, Timestamp: it.at}
	k.client.Load().TryProduce(context.Background(), r, func(_ *kgo.Record, err error) { k.settle(it, err) })
}

func (k *kafka) drop(it *item, reason string, err error) {
	k.state.refuses(reason, err)
	k.queue.drop(it, reason)
}

// renew replaces the client. What the old one has comes back.
func (k *kafka) renew() {
	client, err := kgo.NewClient(k.options...)
	if err != nil { // never: these options made a client before
		k.state.failed(delivering, err)
		return
	}
	k.client.Swap(client).Close()
}

// recordKey returns the key of the record of e, nil for none. A route is refused whose key would be what is redacted.
func (k *kafka) recordKey(e *Event) []byte {
	switch k.key {
	case "":
		return nil
	case "id":
		return []byte(e.ID)
	case "method":
		return []byte(e.Method)
	}
	values := e.Metadata[strings.TrimPrefix(k.key, "metadata.")]
	if len(values) == 0 {
		return nil
	}
	return []byte(strings.Join(values, ", "))
}

// settle is called by a client when a record is delivered, or when the client does not try any more.
//
// What a broker refuses is a batch. So its records are sent again in smaller ones, until the record that is the cause is sent
// alone.
func (k *kafka) settle(it *item, err error) {
	if err == nil {
		k.state.ok(delivering)
		k.watch.delivered()
		k.pace.delivered()
		k.queue.deliver(it)
		return
	}
	switch reason := kafkaVerdict(err); {
	case errors.Is(err, kgo.ErrClientClosed): // it was replaced, or end drops what is left
		k.queue.giveBackNext(it)
	case reason == "":
		k.retry(it, err)
	case !it.alone:
		k.pace.split()
		k.queue.giveBackNext(it)
	case reason == ReasonFailed && !k.queue.blame(it):
		k.retry(it, err)
	default:
		k.drop(it, reason, err)
	}
}

// retry gives back a record, which run sends again after a pause.
func (k *kafka) retry(it *item, err error) {
	k.state.failed(delivering, err)
	k.pace.failed()
	k.queue.giveBackNext(it)
}

// kafkaVerdict returns why a record that alone failed with err is to be dropped, "" if it is to be tried again.
func kafkaVerdict(err error) (reason string) {
	switch {
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return ReasonTooLarge
	case errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp), errors.Is(err, kerr.PolicyViolation),
		errors.Is(err, kerr.UnsupportedForMessageFormat):
		return ReasonRejected
	}
	if ke := (*kerr.Error)(nil); errors.As(err, &ke) && !ke.Retriable && !refusesUs(err) {
		return ReasonFailed
	}
	return ""
}

// refusesUs reports whether err is about who framegate is, rather than about a record: an administrator can change that.
func refusesUs(err error) bool {
	return errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) ||
		errors.Is(err, kerr.SaslAuthenticationFailed) || errors.Is(err, kerr.UnsupportedSaslMechanism) ||
		errors.Is(err, kerr.IllegalSaslState)
}
