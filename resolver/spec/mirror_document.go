package spec

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Mirror is something that gets copies of a route's calls, for which the calls do not wait: a backend, files, a topic of
// Kafka or an index of Elasticsearch. Exactly one of Backend, Record, Kafka and Elasticsearch is set.
type Mirror struct {
	Name          string         `yaml:"name"`
	Backend       *MirrorBackend `yaml:"backend,omitempty"`
	Record        *Record        `yaml:"record,omitempty"`
	Kafka         *Kafka         `yaml:"kafka,omitempty"`
	Elasticsearch *Elasticsearch `yaml:"elasticsearch,omitempty"`

	Percent   *float64       `yaml:"percent,omitempty"`   // of calls, each chosen at random when it begins; nil means 100
	Select    *Select        `yaml:"select,omitempty"`    // which messages of the request; nil means all
	Queue     Queue          `yaml:"queue,omitempty"`     // of a call's copy; of Kafka and Elasticsearch: of all calls together
	WhenFull  MirrorWhenFull `yaml:"when_full,omitempty"` // empty means drop
	Timeout   time.Duration  `yaml:"timeout,omitempty"`   // how long a backend may leave a copy waiting, see README; 0 means DefaultMirrorTimeout
	Compare   *Compare       `yaml:"compare,omitempty"`   // of a backend's answers with those of the route's; nil means not
	Responses bool           `yaml:"responses,omitempty"` // the messages of answers, too, for Kafka and Elasticsearch
}

// MirrorBackend is where the copies of calls go: as an entry of Backends, without name and weight.
type MirrorBackend struct {
	Backend  `yaml:",inline"`
	Balancer *Balancer `yaml:"balancer,omitempty"`
}

// Select says which messages are delivered.
type Select struct {
	Contains *bool         `yaml:"contains,omitempty"` // true: only those of Types; false: all but those; nil means true
	Types    []MessageType `yaml:"types"`
}

// MessageType is a condition on a message: by Field and Equals on its bytes, or by When on what the route's schema makes of
// them.
type MessageType struct {
	Field   string  `yaml:"field,omitempty"`   // field numbers that lead to a value, such as 7 or 3.1
	Equals  *Scalar `yaml:"equals,omitempty"`  // beside Field
	When    string  `yaml:"when,omitempty"`    // in CEL, with the variables of rules
	Respond bool    `yaml:"respond,omitempty"` // the mirror answers calls whose first delivered message is of this type
}

// Scalar is a whole number, a text, true or false.
type Scalar struct {
	Value any // int64, uint64 over math.MaxInt64, string or bool
}

// Queue bounds what waits for a slow receiver. 0 means the default.
type Queue struct {
	Messages int      `yaml:"messages,omitempty"` // default DefaultQueueMessages
	Bytes    ByteSize `yaml:"bytes,omitempty"`    // default DefaultQueueBytes; a longer message has no room
}

// MirrorWhenFull says what happens to a message for which the queue has no room.
type MirrorWhenFull string

// The values of MirrorWhenFull.
const (
	MirrorDrop MirrorWhenFull = "drop" // it is left out of the copy
	MirrorEnd  MirrorWhenFull = "end"  // the copy of the call ends
)

// Respond says who answers a message that several mirrors may answer.
type Respond string

// RespondFirst lets all of them answer: the first OK is the answer.
const RespondFirst Respond = "first"

// Compare says how the answers of a mirror are compared with those of the route's backend.
type Compare struct {
	Ignore []string `yaml:"ignore,omitempty"` // message.PATH, which needs a schema, or trailer.NAME
	Sample int      `yaml:"sample,omitempty"` // how many differences are kept to be shown; 0 means DefaultCompareSample
}

// Record says where calls are recorded.
type Record struct {
	Path     string   `yaml:"path"`                // a directory, which is made if there is none
	MaxBytes ByteSize `yaml:"max_bytes,omitempty"` // of all files of the mirror; the oldest are removed; 0 means DefaultRecordBytes
	Redact   []string `yaml:"redact,omitempty"`    // metadata whose values are not written; nil means DefaultRedact
}

// Kafka is a topic that gets a record for each message.
type Kafka struct {
	Brokers []string   `yaml:"brokers"` // host:port
	Topic   string     `yaml:"topic"`
	Acks    KafkaAcks  `yaml:"acks,omitempty"`   // empty means all
	Key     string     `yaml:"key,omitempty"`    // of records: id, method or metadata.NAME; empty for none
	Redact  []string   `yaml:"redact,omitempty"` // as in Record
	TLS     *ClientTLS `yaml:"tls,omitempty"`    // nil means cleartext
	SASL    *SASL      `yaml:"sasl,omitempty"`   // nil means none
}

// KafkaAcks says how many replicas have a record before it counts as delivered.
type KafkaAcks string

// The values of KafkaAcks.
const (
	AcksAll    KafkaAcks = "all" // those in sync; the default
	AcksLeader KafkaAcks = "leader"
	AcksNone   KafkaAcks = "none"
)

// ClientTLS says how servers are known, and how framegate shows itself to them. The files are read when a connection is made.
type ClientTLS struct {
	CAFile     string `yaml:"ca_file,omitempty"` // empty means the system's
	CertFile   string `yaml:"cert_file,omitempty"`
	KeyFile    string `yaml:"key_file,omitempty"`
	ServerName string `yaml:"server_name,omitempty"` // empty means the host that is connected to
}

// SASL says who framegate is for Kafka.
type SASL struct {
	Mechanism    SASLMechanism `yaml:"mechanism"`
	Username     string        `yaml:"username"`
	PasswordFile string        `yaml:"password_file"` // read when a connection is made; white space at the end is left out
}

// SASLMechanism is a mechanism of SASL.
type SASLMechanism string

// The values of SASLMechanism.
const (
	SASLPlain       SASLMechanism = "PLAIN" // with TLS only
	SASLScramSHA256 SASLMechanism = "SCRAM-SHA-256"
	SASLScramSHA512 SASLMechanism = "SCRAM-SHA-512"
)

// Elasticsearch is an index that gets a document for each message.
type Elasticsearch struct {
	URLs       []string `yaml:"urls"`                   // http://host:port or https://host:port
	Index      string   `yaml:"index"`                  // or a data stream
	APIKeyFile string   `yaml:"api_key_file,omitempty"` // has the key as Elasticsearch encodes it; https only
	CAFile     string   `yaml:"ca_file,omitempty"`      // of https; empty means the system's
	Redact     []string `yaml:"redact,omitempty"`       // as in Record
}

// What Compare.Ignore begins with: the path of a field of an answer's messages, or the name of a trailer.
const (
	IgnoreMessage = "message."
	IgnoreTrailer = "trailer."
)

// SelectKey is the key of Route.Select.
const SelectKey = "select"

// MirrorSelectKey returns the key of the Select of a route's i-th mirror.
func MirrorSelectKey(i int) string { return fmt.Sprintf("mirrors[%d].select", i) }

// TypeKey returns the key of the i-th of Types, of a Select whose key is key.
func (s *Select) TypeKey(key string, i int) string { return fmt.Sprintf("%s.types[%d]", key, i) }

// Defaults of a mirror.
const (
	DefaultMirrorTimeout = 5 * time.Second
	DefaultQueueMessages = 1024
	DefaultQueueBytes    = ByteSize(1 << 20)
	DefaultCompareSample = 100
	DefaultRecordBytes   = ByteSize(1 << 30)
)

// DefaultRedact has the names of metadata whose values are neither recorded nor sent, unless the document says which.
var DefaultRedact = []string{"authorization", "cookie"}

// Redacted stands for values that are not shown.
const Redacted = "[REDACTED]"

// RedactOr returns names, the Redact of a document, or DefaultRedact if it is nil.
func RedactOr(names []string) []string {
	if names == nil {
		return DefaultRedact
	}
	return names
}

// Share returns the share of calls that are copied, 0 to 1.
func (m *Mirror) Share() float64 {
	if m.Percent == nil {
		return 1
	}
	return *m.Percent / 100
}

// Waits returns how long the mirror may leave a copy waiting.
func (m *Mirror) Waits() time.Duration { return cmp.Or(m.Timeout, DefaultMirrorTimeout) }

// Responds reports whether the mirror may answer calls.
func (m *Mirror) Responds() bool {
	if m.Select != nil {
		for _, t := range m.Select.Types {
			if t.Respond {
				return true
			}
		}
	}
	return false
}

// Kind returns the key of what gets the copies, for people.
func (m *Mirror) Kind() string {
	switch {
	case m.Backend != nil:
		return "backend"
	case m.Record != nil:
		return "record"
	case m.Kafka != nil:
		return "kafka"
	}
	return "elasticsearch"
}

// Only reports whether only the messages of Types are delivered, rather than all but those.
func (s *Select) Only() bool { return s.Contains == nil || *s.Contains }

// MaxMessages returns how many messages may wait.
func (q Queue) MaxMessages() int { return cmp.Or(q.Messages, DefaultQueueMessages) }

// MaxBytes returns how many bytes of messages may wait.
func (q Queue) MaxBytes() int64 { return int64(cmp.Or(q.Bytes, DefaultQueueBytes)) }

// Kept returns how many differences are kept.
func (c *Compare) Kept() int { return cmp.Or(c.Sample, DefaultCompareSample) }

// Wants implements strict.Wanter.
func (Scalar) Wants() string { return "a whole number, a text, true or false" }

// UnmarshalYAML decodes a scalar.
func (s *Scalar) UnmarshalYAML(n *yaml.Node) error {
	switch n.Tag {
	case "!!str":
		s.Value = n.Value
		return nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		s.Value = b
		return err
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			s.Value = i
			return nil
		}
		var u uint64
		err := n.Decode(&u)
		s.Value = u
		return err
	}
	return fmt.Errorf("%q, want %s", n.Value, s.Wants())
}

// MarshalYAML encodes what UnmarshalYAML decodes.
func (s Scalar) MarshalYAML() (any, error) { return s.Value, nil }

// String returns the scalar for people.
func (s Scalar) String() string {
	switch v := s.Value.(type) {
	case string:
		return strconv.Quote(v)
	case uint64:
		if v <= math.MaxInt64 {
			return strconv.FormatInt(int64(v), 10)
		}
	}
	return fmt.Sprint(s.Value)
}
