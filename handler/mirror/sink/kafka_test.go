package sink

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testcert"
	"github.com/framegate/framegate/test/testlog"
)

func newTestKafka(t testing.TB, doc *spec.Kafka, cfg Config) Sink {
	t.Helper()
	s, err := NewKafka(doc, cfg)
	require.NoError(t, err)
	closing(t, s)
	return s
}

// numbered returns the event of that number.
func numbered(i int) *Event {
	e := ordinary()
	e.ID = fmt.Sprint(i)
	return e
}

// offerAll offers n events, and requires that all are accepted.
func offerAll(t testing.TB, s Sink, n int) {
	t.Helper()
	for i := range n {
		require.True(t, s.Offer(numbered(i)))
	}
}

func TestKafka_DeliversRecordsWithTheKeyThatIsChosen(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"": "", "id": "5f0c1d2e3a4b", "method": "/echo.Echo/Unary", "metadata.x-tenant": "gold, silver", "metadata.none": "",
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			b := startBrokers(t, 1, 1)
			doc := b.doc()
			doc.Key = key
			s := newTestKafka(t, doc, Config{})
			e := ordinary()
			e.Metadata["x-tenant"] = []string{"gold", "silver"}
			require.True(t, s.Offer(e))
			st := settled(t, s)
			require.Equal(t, []any{StateUp, "", int64(1), int64(100), int64(0), time.Duration(0)},
				[]any{st.State, st.Error, st.Delivered, st.DeliveredBytes, st.WaitingBytes, st.Lag})
			require.Empty(t, st.Dropped)
			r := b.consume(t, 1)[0]
			require.Equal(t, want, string(r.Key))
			require.Equal(t, want == "", r.Key == nil)
			require.Equal(t, string(newEncoder(nil).append(nil, e)), string(r.Value))
			require.Equal(t, spec.Redacted, decode(t, r.Value).Metadata["authorization"])
			require.Equal(t, e.Time.UnixMilli(), r.Timestamp.UnixMilli())
		})
	}
}

func TestKafka_AsksForTheAcknowledgementsThatAreChosen(t *testing.T) {
	t.Parallel()
	for acks, want := range map[spec.KafkaAcks]int16{"": -1, spec.AcksAll: -1, spec.AcksLeader: 1, spec.AcksNone: 0} {
		t.Run(string(acks), func(t *testing.T) {
			t.Parallel()
			b := startBrokers(t, 1, 1)
			var seen, ids atomic.Int64
			b.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				b.KeepControl()
				seen.Store(int64(r.(*kmsg.ProduceRequest).Acks))
				return nil, nil, false
			})
			b.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
				b.KeepControl()
				ids.Add(1)
				return nil, nil, false
			})
			doc := b.doc()
			doc.Acks = acks
			s := newTestKafka(t, doc, Config{})
			offerAll(t, s, 100)
			require.EqualValues(t, 100, settled(t, s).Delivered)
			b.consume(t, 100)
			require.EqualValues(t, want, seen.Load())
			require.Equal(t, want == -1, ids.Load() > 0, "only with all acknowledgements the producer is idempotent")
		})
	}
}

func TestKafka_KeepsTheOrderAndSendsManyTogether(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 1)
	var requests atomic.Int64
	b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		requests.Add(1)
		return nil, nil, false
	})
	s := newTestKafka(t, b.doc(), Config{})
	offerAll(t, s, 1000)
	settled(t, s)
	for i, r := range b.consume(t, 1000) {
		require.Equal(t, fmt.Sprint(i), decode(t, r.Value).ID)
	}
	require.Less(t, requests.Load(), int64(100))
}

func TestKafka_CloseDeliversWhatWaits(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 3)
	s := newTestKafka(t, b.doc(), Config{})
	offerAll(t, s, 1000)
	closed := make(chan struct{})
	go func() { s.Close(t.Context()); close(closed) }()
	s.Close(t.Context())
	<-closed
	st := s.Stats()
	require.Equal(t, []any{int64(1000), 0}, []any{st.Delivered, st.Waiting})
	require.False(t, s.Offer(ordinary()))
	require.Equal(t, map[string]int64{ReasonClosed: 1}, s.Stats().Dropped)
	b.consume(t, 1000)
}

func TestKafka_DropsARecordThatIsTooLarge(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 1)
	var log testlog.Buffer
	s := newTestKafka(t, b.doc(), Config{Log: log.Logger(), Queue: spec.Queue{Bytes: 8 << 20}})
	e := ordinary()
	e.Payload = []byte(strings.Repeat("x", 2<<20))
	require.True(t, s.Offer(e))
	require.True(t, s.Offer(numbered(1)))
	st := settled(t, s)
	require.Equal(t, map[string]int64{ReasonTooLarge: 1}, st.Dropped)
	require.EqualValues(t, 1, st.Delivered)
	require.Equal(t, 1, log.Count("mirror dropped a record that its server refuses"), log.String())
	b.consume(t, 1)
}

// secured starts brokers with TLS and SASL, and returns a document for them and the option of a consumer.
func secured(t *testing.T, mechanism spec.SASLMechanism, password string) (*brokers, *spec.Kafka) {
	t.Helper()
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, dir)
	cert, err := tls.LoadX509KeyPair(ca.Issue(t, dir, "broker"))
	require.NoError(t, err)
	opts := []kfake.Opt{kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})}
	if mechanism != "" {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser(string(mechanism), "user", "secret"))
	}
	b := startBrokers(t, 1, 1, opts...)
	doc := b.doc()
	doc.TLS = &spec.ClientTLS{CAFile: ca.File}
	if mechanism != "" {
		doc.SASL = &spec.SASL{Mechanism: mechanism, Username: "user", PasswordFile: filepath.Join(dir, "password")}
		require.NoError(t, os.WriteFile(doc.SASL.PasswordFile, []byte(password+"\n"), 0o600))
	}
	return b, doc
}

// watermark returns how many records the topic has, for a cluster whose consumers would need credentials.
func (b *brokers) watermark() (n int64) {
	for _, p := range b.PartitionInfos("t") {
		n += p.HighWatermark
	}
	return n
}

func TestKafka_DeliversWithTLSAndSASL(t *testing.T) {
	t.Parallel()
	for _, m := range []spec.SASLMechanism{"", spec.SASLPlain, spec.SASLScramSHA256, spec.SASLScramSHA512} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			b, doc := secured(t, m, "secret")
			s := newTestKafka(t, doc, Config{})
			offerAll(t, s, 10)
			require.EqualValues(t, 10, settled(t, s).Delivered)
			require.EqualValues(t, 10, b.watermark())
		})
	}
}

func TestKafka_SASLInCleartextWorksForSCRAM(t *testing.T) {
	t.Parallel()
	b := startBrokers(t, 1, 1, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "user", "secret"))
	doc := b.doc()
	doc.SASL = &spec.SASL{Mechanism: spec.SASLScramSHA256, Username: "user", PasswordFile: filepath.Join(t.TempDir(), "p")}
	require.NoError(t, os.WriteFile(doc.SASL.PasswordFile, []byte("secret"), 0o600))
	s := newTestKafka(t, doc, Config{})
	offerAll(t, s, 1)
	require.EqualValues(t, 1, settled(t, s).Delivered)
}

// A file is read for each connection, so whoever corrects it need not restart anything, and what waits meanwhile is delivered.
func TestKafka_IsDownWhileAFileIsMissingOrWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, doc *spec.Kafka) (repair func())
		want  string
	}{
		"no password": {func(t *testing.T, doc *spec.Kafka) func() { return move(t, doc.SASL.PasswordFile) }, "no such file"},
		"wrong password": {func(t *testing.T, doc *spec.Kafka) func() {
			require.NoError(t, os.WriteFile(doc.SASL.PasswordFile, []byte("wrong"), 0o600))
			return func() { require.NoError(t, os.WriteFile(doc.SASL.PasswordFile, []byte("secret"), 0o600)) }
		}, "connection to 127.0.0.1:"}, // kfake ends the connection and does not say why
		"no CA": {func(t *testing.T, doc *spec.Kafka) func() { return move(t, doc.TLS.CAFile) }, "CA file: open"},
		"another CA": {func(t *testing.T, doc *spec.Kafka) func() {
			right, err := os.ReadFile(doc.TLS.CAFile)
			require.NoError(t, err)
			wrong, err := os.ReadFile(testcert.NewAuthority(t, t.TempDir()).File)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(doc.TLS.CAFile, wrong, 0o600))
			return func() { require.NoError(t, os.WriteFile(doc.TLS.CAFile, right, 0o600)) }
		}, "certificate signed by unknown authority"},
		"no client certificate": {func(t *testing.T, doc *spec.Kafka) func() {
			dir := t.TempDir()
			doc.TLS.CertFile, doc.TLS.KeyFile = testcert.NewAuthority(t, dir).Issue(t, dir, "client")
			return move(t, doc.TLS.KeyFile)
		}, "client-key.pem: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, doc := secured(t, spec.SASLPlain, "secret")
			repair := c.spoil(t, doc)
			s := newTestKafka(t, doc, Config{})
			down(t, s, c.want)
			offerAll(t, s, 10)
			time.Sleep(300 * time.Millisecond) // for the client to try
			require.Equal(t, 10, down(t, s, c.want).Waiting)
			repair()
			require.EqualValues(t, 10, settled(t, s).Delivered)
			require.Equal(t, StateUp, s.Stats().State)
			require.EqualValues(t, 10, b.watermark())
		})
	}
}

// move moves a file away and returns what moves it back.
func move(t *testing.T, file string) (back func()) {
	require.NoError(t, os.Rename(file, file+".away"))
	return func() { require.NoError(t, os.Rename(file+".away", file)) }
}

func TestKafka_RefusesAMechanismThatThereIsNot(t *testing.T) {
	t.Parallel()
	_, err := NewKafka(&spec.Kafka{Brokers: []string{"127.0.0.1:1"}, Topic: "t", SASL: &spec.SASL{Mechanism: "GSSAPI"}}, Config{})
	require.ErrorContains(t, err, "want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
}
