package spec

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/resolver/fieldpath"
	"github.com/framegate/framegate/resolver/plain"
)

const (
	MaxMirrors         = 16 // of one route
	maxTypes           = 64 // of one select
	maxQueueMessages   = 1_000_000
	maxCompareSample   = 10_000
	maxCompareIgnore   = 64
	maxRedact          = 64
	maxSinkAddresses   = 64
	maxTextLen         = 1024
	minMirrorTimeout   = 10 * time.Millisecond
	maxMirrorTimeout   = 24 * time.Hour
	minQueueBytes      = ByteSize(1 << 10)
	maxQueueBytes      = ByteSize(1 << 30)
	minRecordBytes     = ByteSize(64 << 10)
	maxRecordBytes     = ByteSize(1 << 44)
	maxElasticIndexLen = 255 // bytes, as Elasticsearch has it
)

// mirrorProblems returns every mistake of the keys mirrors, select and respond, except those in CEL, which are found when the
// conditions are compiled.
func mirrorProblems(r *Route) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.Respond != "" && r.Respond != RespondFirst {
		fail("respond: %q, want %s", r.Respond, RespondFirst)
	}
	if len(r.Mirrors) > MaxMirrors {
		fail("mirrors: %d, want at most %d", len(r.Mirrors), MaxMirrors)
	}
	names := map[string]bool{}
	for i := range first(r.Mirrors, MaxMirrors) {
		m, key := &r.Mirrors[i], fmt.Sprintf("mirrors[%d]", i)
		if err := ValidateName(m.Name); err != nil {
			fail("%s.name: %w", key, err)
		}
		if names[m.Name] {
			fail("%s.name: %q, want a name that no other mirror of the route has", key, m.Name)
		}
		names[m.Name] = true
		errs = append(errs, m.problems(key, r)...)
	}
	if r.Select != nil {
		errs = append(errs, r.Select.problems(SelectKey, r)...)
		for i, t := range r.Select.Types {
			if t.Respond {
				fail("select.types[%d].respond: want it in select of mirrors only", i)
			}
		}
	}
	return append(errs, respondProblems(r)...)
}

// respondProblems returns the mistakes in who may answer what.
func respondProblems(r *Route) (errs []error) {
	type answering struct {
		mirror int
		key    string
		MessageType
	}
	var all []answering
	for i := range first(r.Mirrors, MaxMirrors) {
		m := &r.Mirrors[i]
		if m.Select == nil || !m.Responds() {
			continue
		}
		key := MirrorSelectKey(i)
		if m.Backend == nil {
			errs = append(errs, fmt.Errorf("%s.types: respond: true, want it for a mirror with backend only", key))
		}
		if !m.Select.Only() {
			errs = append(errs, fmt.Errorf("%s.types: respond: true beside contains: false, which leaves messages of these types out", key))
		}
		if r.Fanout != nil {
			errs = append(errs, fmt.Errorf("%s.types: respond: true beside fanout, want one of the two", key))
		}
		if r.Hedge != nil {
			errs = append(errs, fmt.Errorf("%s.types: respond: true beside hedge, want one of the two", key))
		}
		if m.Percent != nil && *m.Percent != 100 {
			errs = append(errs, fmt.Errorf("mirrors[%d].percent: %v beside respond: true, want 100: other calls would have nobody to answer them", i, *m.Percent))
		}
		for j, t := range first(m.Select.Types, maxTypes) {
			if t.Respond {
				all = append(all, answering{i, m.Select.TypeKey(key, j), t})
			}
		}
	}
	if r.Respond == RespondFirst {
		return errs
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.mirror != b.mirror && !a.apart(b.MessageType) {
				errs = append(errs, fmt.Errorf("%s: respond: true beside %s, and a message may be of both types: want one that answers it, or respond: %s in the route", a.key, b.key, RespondFirst))
			}
		}
	}
	return errs
}

// apart reports whether certainly no message is of both types.
func (t MessageType) apart(other MessageType) bool {
	a, ok := t.Condition()
	if !ok {
		return false
	}
	b, ok := other.Condition()
	return ok && a.Apart(b)
}

// Condition returns the condition of a valid type with Field; false for one with When.
func (t MessageType) Condition() (c fieldpath.Condition, ok bool) {
	if t.Equals == nil {
		return c, false
	}
	p, err := fieldpath.Parse(t.Field)
	if err != nil {
		return c, false
	}
	return fieldpath.Equals(p, t.Equals.Value), true
}

func (m *Mirror) problems(key string, r *Route) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	kinds := 0
	for _, is := range []bool{m.Backend != nil, m.Record != nil, m.Kafka != nil, m.Elasticsearch != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		fail("name: %q with %d of backend, record, kafka and elasticsearch, want one", m.Name, kinds)
	}
	if m.Backend != nil {
		errs = append(errs, m.Backend.problems(key+".backend")...)
	}
	if m.Record != nil {
		errs = append(errs, m.Record.problems(key+".record")...)
	}
	if m.Kafka != nil {
		errs = append(errs, m.Kafka.problems(key+".kafka")...)
	}
	if m.Elasticsearch != nil {
		errs = append(errs, m.Elasticsearch.problems(key+".elasticsearch")...)
	}
	if p := m.Percent; p != nil && !(*p >= 0 && *p <= 100) {
		fail("percent: %v, want 0 to 100", *p)
	}
	if m.Select != nil {
		errs = append(errs, m.Select.problems(key+".select", r)...)
	}
	errs = append(errs, m.Queue.problems(key+".queue")...)
	if m.Backend == nil && m.Timeout != 0 {
		fail("timeout: %s, want it beside backend only", m.Timeout)
	}
	if m.WhenFull != "" && (m.Kafka != nil || m.Elasticsearch != nil) {
		fail("when_full: %q, want it beside backend or record only", m.WhenFull)
	}
	if w := m.WhenFull; w != "" && w != MirrorDrop && w != MirrorEnd {
		fail("when_full: %q, want %s or %s", w, MirrorDrop, MirrorEnd)
	}
	if m.Timeout != 0 && (m.Timeout < minMirrorTimeout || m.Timeout > maxMirrorTimeout) {
		fail("timeout: %s, want %s to %s", m.Timeout, minMirrorTimeout, maxMirrorTimeout)
	}
	if m.Compare != nil {
		if m.Backend == nil {
			fail("compare: want it beside backend only")
		}
		errs = append(errs, m.Compare.problems(key+".compare", r)...)
	}
	if m.Responses && m.Kafka == nil && m.Elasticsearch == nil {
		fail("responses: true, want it beside kafka or elasticsearch only")
	}
	return errs
}

func (b *MirrorBackend) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if b.Name != "" {
		fail("name: %q, want none: the mirror has a name", plain.URL(b.Name))
	}
	if b.Weight != nil {
		fail("weight: %d, want none: a mirror has one backend", *b.Weight)
	}
	errs = append(errs, b.Backend.problems(key, MaxEndpoints)...)
	if b.Balancer != nil {
		for _, err := range b.Balancer.problems() {
			fail("%w", err)
		}
	}
	return errs
}

func (s *Select) problems(key string, r *Route) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if len(s.Types) == 0 {
		fail("types: empty, want at least one such as {field: \"1\", equals: 2}")
	}
	if len(s.Types) > maxTypes {
		fail("types: %d, want at most %d", len(s.Types), maxTypes)
	}
	for i, t := range first(s.Types, maxTypes) {
		at := fmt.Sprintf("types[%d]", i)
		switch {
		case (t.Field != "" || t.Equals != nil) && t.When != "":
			fail("%s.when: beside field, want one of the two", at)
		case t.When != "" && r.Schema == nil:
			fail("%s.when: %q, want a schema in the route for it, or field and equals", at, cutText(t.When))
		case t.When != "":
		case t.Field == "":
			fail("%s.field: missing, want field numbers such as 7 or 3.1 and equals, or when", at)
		default:
			if _, err := fieldpath.Parse(t.Field); err != nil {
				fail("%s.field: %w", at, err)
			}
			if t.Equals == nil {
				fail("%s.equals: missing, want a whole number, a text, true or false", at)
			}
		}
	}
	return errs
}

// cutText shortens a text of any length for an error.
func cutText(s string) string {
	if len(s) > maxNameLen {
		return strings.ToValidUTF8(s[:maxNameLen], "") + "..."
	}
	return s
}

func (q Queue) problems(key string) (errs []error) {
	if q.Messages < 0 || q.Messages > maxQueueMessages {
		errs = append(errs, fmt.Errorf("%s.messages: %d, want 1 to %d", key, q.Messages, maxQueueMessages))
	}
	return append(errs, q.Bytes.problem(key+".bytes", minQueueBytes, maxQueueBytes)...)
}

var trailerName = headerName

func (c *Compare) problems(key string, r *Route) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if len(c.Ignore) > maxCompareIgnore {
		fail("ignore: %d, want at most %d", len(c.Ignore), maxCompareIgnore)
	}
	for i, path := range first(c.Ignore, maxCompareIgnore) {
		what, rest, _ := strings.Cut(path, ".")
		switch {
		case what == "message" && validMessagePath(rest) && r.Schema == nil:
			fail("ignore[%d]: %q, want a schema in the route for it", i, path)
		case what == "message" && validMessagePath(rest), what == "trailer" && trailerName.MatchString(rest):
		default:
			fail("ignore[%d]: %q, want message.FIELD, message.FIELD.FIELD or trailer.NAME", i, cutText(path))
		}
	}
	if c.Sample < 0 || c.Sample > maxCompareSample {
		fail("sample: %d, want 1 to %d", c.Sample, maxCompareSample)
	}
	return errs
}

func validMessagePath(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !protoreflect.Name(part).IsValid() {
			return false
		}
	}
	return len(s) <= maxTextLen
}

func (rec *Record) problems(key string) (errs []error) {
	if rec.Path == "" || len(rec.Path) > maxSchemaPath || strings.ContainsRune(rec.Path, 0) {
		errs = append(errs, fmt.Errorf("%s.path: %q, want the path of a directory", key, cutText(rec.Path)))
	}
	errs = append(errs, rec.MaxBytes.problem(key+".max_bytes", minRecordBytes, maxRecordBytes)...)
	return append(errs, redactProblems(key, rec.Redact)...)
}

func redactProblems(key string, names []string) (errs []error) {
	if len(names) > maxRedact {
		errs = append(errs, fmt.Errorf("%s.redact: %d, want at most %d", key, len(names), maxRedact))
	}
	for i, name := range first(names, maxRedact) {
		if !headerName.MatchString(name) {
			errs = append(errs, fmt.Errorf("%s.redact[%d]: %q, want a header name of a-z 0-9 _ . -", key, i, cutText(name)))
		}
	}
	return errs
}

var kafkaTopic = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`) // as Kafka has it

func (k *Kafka) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if len(k.Brokers) == 0 || len(k.Brokers) > maxSinkAddresses {
		fail("brokers: %d, want 1 to %d such as \"127.0.0.1:9092\"", len(k.Brokers), maxSinkAddresses)
	}
	for i, b := range first(k.Brokers, maxSinkAddresses) {
		if err := ValidateAddress(b); err != nil || strings.HasPrefix(b, UnixPrefix) || strings.HasPrefix(b, DNSPrefix) {
			fail("brokers[%d]: %q, want host:port", i, plain.URL(cutText(b)))
		}
	}
	if !kafkaTopic.MatchString(k.Topic) || k.Topic == "." || k.Topic == ".." {
		fail("topic: %q, want 1 to 249 of a-z A-Z 0-9 . _ -", cutText(k.Topic))
	}
	if k.Acks != "" && !slices.Contains([]KafkaAcks{AcksAll, AcksLeader, AcksNone}, k.Acks) {
		fail("acks: %q, want %s, %s or %s", k.Acks, AcksAll, AcksLeader, AcksNone)
	}
	switch name, ok := strings.CutPrefix(k.Key, "metadata."); {
	case !ok && !slices.Contains([]string{"", "id", "method"}, k.Key), ok && !headerName.MatchString(name):
		fail("key: %q, want id, method or metadata.NAME", cutText(k.Key))
	case ok && slices.Contains(RedactOr(k.Redact), name):
		fail("key: %q, want a header that redact does not name", cutText(k.Key))
	}
	errs = append(errs, redactProblems(key, k.Redact)...)
	if t := k.TLS; t != nil && (t.CertFile == "") != (t.KeyFile == "") {
		fail("tls.cert_file: %q and key_file: %q, want both or none", t.CertFile, t.KeyFile)
	}
	if s := k.SASL; s != nil {
		mechanisms := []SASLMechanism{SASLPlain, SASLScramSHA256, SASLScramSHA512}
		if !slices.Contains(mechanisms, s.Mechanism) {
			fail("sasl.mechanism: %q, want %s", s.Mechanism, choices(mechanisms))
		}
		if s.Mechanism == SASLPlain && k.TLS == nil {
			fail("sasl.mechanism: %s without tls, want tls: the password would pass in the clear", s.Mechanism)
		}
		if s.Username == "" {
			fail("sasl.username: \"\", want one")
		}
		if s.PasswordFile == "" {
			fail("sasl.password_file: \"\", want the path of a file with the password")
		}
	}
	return errs
}

// validURLHost reports whether a URL has a host, and if it has a port, one that there is.
func validURLHost(u *url.URL) bool {
	port := cmp.Or(u.Port(), "1") // any
	return !strings.HasSuffix(u.Host, ":") && ValidateAddress(net.JoinHostPort(u.Hostname(), port)) == nil
}

func (e *Elasticsearch) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	if len(e.URLs) == 0 || len(e.URLs) > maxSinkAddresses {
		fail("urls: %d, want 1 to %d such as http://127.0.0.1:9200", len(e.URLs), maxSinkAddresses)
	}
	for i, s := range first(e.URLs, maxSinkAddresses) {
		u, err := url.Parse(s)
		if err != nil || !validURLHost(u) || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			fail("urls[%d]: %q, want http://host:port or https://host:port", i, plain.URL(cutText(s)))
			continue
		}
		if u.Scheme == "http" && e.APIKeyFile != "" {
			fail("urls[%d]: %q beside api_key_file, want https: the key would pass in the clear", i, s)
		}
	}
	if !validIndex(e.Index) {
		fail("index: %q, want 1 to %d characters in lower case without \\ / * ? \" < > | , # : and spaces, and no - _ + first", cutText(e.Index), maxElasticIndexLen)
	}
	return append(errs, redactProblems(key, e.Redact)...)
}

// validIndex reports whether Elasticsearch takes the name of an index (its "Create index API", "Path parameters").
func validIndex(s string) bool {
	return s != "" && len(s) <= maxElasticIndexLen && s == strings.ToLower(s) && s != "." && s != ".." &&
		!strings.ContainsAny(s, "\\/*?\"<>| ,#:") && !strings.ContainsAny(s[:1], "-_+") && Printable(s)
}
