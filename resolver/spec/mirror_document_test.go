package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const oneToMany = `
name: a
match: [{method: "*"}]
backends: [{endpoints: [{address: "127.0.0.1:1", tags: {node: one}}, {address: "127.0.0.1:2"}]}]
`

// indented returns a document with text under the key mirrors, as the keys of one mirror.
func oneMirror(text string) string {
	return oneToMany + "mirrors:\n- name: m\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

func TestMirrors_EncodeWhatTheyParse(t *testing.T) {
	doc := oneToMany + `
schema: {name: s}
select: {types: [{field: "7", equals: true}]}
respond: first
mirrors:
- name: shadow
  backend: {service: echo, tags: {a: b}, pool: {connections: {max: 2}}, balancer: {policy: round_robin}}
  percent: 0.5
  queue: {messages: 10, bytes: 64KiB}
  when_full: end
  timeout: 1s
  compare: {ignore: [message.at, trailer.x-time], sample: 3}
- name: answers
  backend: {endpoints: [{address: "127.0.0.1:2"}]}
  select:
    contains: true
    types:
    - {field: "1", equals: 2}
    - {field: "3.1", equals: "02"}
    - {when: message.kind == "ORDER", respond: true}
- {name: tape, record: {path: /tmp/x, max_bytes: 1GiB, redact: [cookie]}}
- {name: topic, responses: true, kafka: {brokers: ["127.0.0.1:9092"], topic: t, acks: leader, key: metadata.x-tenant, tls: {}, sasl: {mechanism: PLAIN, username: u, password_file: /p}}}
- {name: index, elasticsearch: {urls: ["https://a:9200"], index: i, api_key_file: /k}}
`
	r, err := ParseRoute([]byte(doc))
	require.NoError(t, err)
	require.EqualValues(t, 64<<10, r.Mirrors[0].Queue.MaxBytes())
	require.EqualValues(t, "02", r.Mirrors[1].Select.Types[1].Equals.Value, "a text in quotes is a text")
	require.EqualValues(t, 2, r.Mirrors[1].Select.Types[0].Equals.Value)
	require.True(t, r.Mirrors[1].Responds())
	require.Equal(t, []string{"#0", "mirrors/shadow", "mirrors/answers"}, keysOf(r))
	again, err := r.Encode()
	require.NoError(t, err)
	r2, err := ParseRoute(again)
	require.NoError(t, err, string(again))
	require.Equal(t, r, r2)
	asJSON, err := r.MarshalJSON()
	require.NoError(t, err)
	r3, err := ParseRoute(asJSON)
	require.NoError(t, err)
	require.Equal(t, r, r3)
}

func keysOf(r *Route) (keys []string) {
	for _, b := range r.EveryBackend() {
		keys = append(keys, b.Key)
	}
	return keys
}

func TestMirrors_RefuseWhatIsWrong(t *testing.T) {
	const backend = "backend: {service: s}\n"
	for name, c := range map[string]struct{ doc, want string }{
		"no name":                     {oneToMany + "mirrors: [{backend: {service: s}}]", `mirrors[0].name: "", want 1 to 63 of`},
		"two of a name":               {oneToMany + "mirrors: [{name: a, backend: {service: s}}, {name: a, backend: {service: s}}]", `mirrors[1].name: "a", want a name that no other mirror of the route has`},
		"no destination":              {oneMirror("percent: 1"), `mirrors[0].name: "m" with 0 of backend, record, kafka and elasticsearch, want one`},
		"two destinations":            {oneMirror(backend + "record: {path: /x}"), `with 2 of backend, record`},
		"unknown key":                 {oneMirror(backend + "percents: 1"), `mirrors[0].percents: unknown key, want one of: name, backend, record`},
		"unknown key of the backend":  {oneMirror("backend: {services: s}"), `mirrors[0].backend.services: unknown key, want one of: name, weight, service`},
		"backend of nothing":          {oneMirror("backend: {balancer: {policy: round_robin}}"), `mirrors[0].backend.endpoints: empty, want at least one`},
		"backend with a weight":       {oneMirror("backend: {service: s, weight: 2}"), `mirrors[0].backend.weight: 2, want none`},
		"backend with a name":         {oneMirror("backend: {service: s, name: n}"), `mirrors[0].backend.name: "n", want none`},
		"wrong address":               {oneMirror(`backend: {endpoints: [{address: "nowhere"}]}`), `mirrors[0].backend.endpoints[0].address: "nowhere"`},
		"wrong balancer":              {oneMirror("backend: {service: s, balancer: {policy: best}}"), `mirrors[0].backend.balancer.policy: "best"`},
		"percent over 100":            {oneMirror(backend + "percent: 101"), `mirrors[0].percent: 101, want 0 to 100`},
		"percent below 0":             {oneMirror(backend + "percent: -1"), `mirrors[0].percent: -1, want 0 to 100`},
		"percent that is no number":   {oneMirror(backend + "percent: .nan"), `mirrors[0].percent: NaN, want 0 to 100`},
		"no types":                    {oneMirror(backend + "select: {contains: false}"), `mirrors[0].select.types: empty`},
		"field 0":                     {oneMirror(backend + `select: {types: [{field: "0", equals: 1}]}`), `mirrors[0].select.types[0].field: "0", want field numbers`},
		"field without equals":        {oneMirror(backend + `select: {types: [{field: "1"}]}`), `mirrors[0].select.types[0].equals: missing`},
		"equals without field":        {oneMirror(backend + `select: {types: [{equals: 1}]}`), `mirrors[0].select.types[0].field: missing`},
		"equals a list":               {oneMirror(backend + `select: {types: [{field: "1", equals: [1]}]}`), `mirrors[0].select.types[0].equals: a list, want a whole number, a text, true or false`},
		"equals a fraction":           {oneMirror(backend + `select: {types: [{field: "1", equals: 1.5}]}`), `mirrors[0].select.types[0].equals: "1.5", want a whole number, a text, true or false`},
		"when and field":              {oneMirror(backend + `select: {types: [{field: "1", equals: 1, when: "true"}]}`), `mirrors[0].select.types[0].when: beside field`},
		"when without a schema":       {oneMirror(backend + `select: {types: [{when: message.a == 1}]}`), `mirrors[0].select.types[0].when: "message.a == 1", want a schema in the route`},
		"negative queue":              {oneMirror(backend + `queue: {messages: -1}`), `mirrors[0].queue.messages: -1, want 1 to 1000000`},
		"queue of one byte":           {oneMirror(backend + `queue: {bytes: 1}`), `mirrors[0].queue.bytes: 1, want 1KiB to 1GiB`},
		"queue of a wrong unit":       {oneMirror(backend + `queue: {bytes: 1MB}`), `mirrors[0].queue.bytes: "1MB", want a number of bytes such as`},
		"queue over int64":            {oneMirror(backend + `queue: {bytes: 9999999999GiB}`), `mirrors[0].queue.bytes: "9999999999GiB", want a number of bytes`},
		"when_full":                   {oneMirror(backend + `when_full: wait`), `mirrors[0].when_full: "wait", want drop or end`},
		"timeout":                     {oneMirror(backend + `timeout: 1ms`), `mirrors[0].timeout: 1ms, want 10ms to 24h0m0s`},
		"compare without a backend":   {oneMirror("record: {path: /x}\ncompare: {}"), `mirrors[0].compare: want it beside backend only`},
		"compare ignores nothing":     {oneMirror(backend + `compare: {ignore: [at]}`), `mirrors[0].compare.ignore[0]: "at", want message.FIELD`},
		"compare without a schema":    {oneMirror(backend + `compare: {ignore: [message.at]}`), `mirrors[0].compare.ignore[0]: "message.at", want a schema in the route`},
		"compare keeps too many":      {oneMirror(backend + `compare: {sample: 99999}`), `mirrors[0].compare.sample: 99999, want 1 to 10000`},
		"responses of a backend":      {oneMirror(backend + `responses: true`), `mirrors[0].responses: true, want it beside kafka or elasticsearch only`},
		"record nowhere":              {oneMirror(`record: {max_bytes: 1MiB}`), `mirrors[0].record.path: "", want the path of a directory`},
		"record too little":           {oneMirror(`record: {path: /x, max_bytes: 1KiB}`), `mirrors[0].record.max_bytes: 1KiB, want 64KiB to`},
		"redact":                      {oneMirror(`record: {path: /x, redact: [Cookie]}`), `mirrors[0].record.redact[0]: "Cookie", want a header name`},
		"timeout of a record":         {oneMirror("record: {path: d}\ntimeout: 1s"), `mirrors[0].timeout: 1s, want it beside backend only`},
		"when_full of a topic":        {oneMirror("kafka: {topic: t, brokers: [\"a:1\"]}\nwhen_full: end"), `mirrors[0].when_full: "end", want it beside backend or record only`},
		"no broker":                   {oneMirror(`kafka: {topic: t}`), `mirrors[0].kafka.brokers: 0, want 1 to 64`},
		"wrong broker":                {oneMirror(`kafka: {topic: t, brokers: ["http://a"]}`), `mirrors[0].kafka.brokers[0]: "http://a", want host:port`},
		"a broker in brackets":        {oneMirror(`kafka: {topic: t, brokers: ["[zz]:9092"]}`), `mirrors[0].kafka.brokers[0]: "[zz]:9092", want host:port`},
		"a port that is none":         {oneMirror(`elasticsearch: {index: i, urls: ["http://a:99999"]}`), `mirrors[0].elasticsearch.urls[0]: "http://a:99999", want http://host:port`},
		"port 0":                      {oneMirror(`elasticsearch: {index: i, urls: ["http://a:0"]}`), `mirrors[0].elasticsearch.urls[0]: "http://a:0", want http://host:port`},
		"no host":                     {oneMirror(`elasticsearch: {index: i, urls: ["http://:9200"]}`), `mirrors[0].elasticsearch.urls[0]: "http://:9200", want http://host:port`},
		"two hosts":                   {oneMirror(`elasticsearch: {index: i, urls: ["http://a,b"]}`), `mirrors[0].elasticsearch.urls[0]: "http://a,b", want http://host:port`},
		"wrong topic":                 {oneMirror(`kafka: {topic: a/b, brokers: ["a:1"]}`), `mirrors[0].kafka.topic: "a/b", want 1 to 249`},
		"wrong acks":                  {oneMirror(`kafka: {topic: a, acks: some, brokers: ["a:1"]}`), `mirrors[0].kafka.acks: "some", want all, leader or none`},
		"wrong key":                   {oneMirror(`kafka: {topic: a, key: x-tenant, brokers: ["a:1"]}`), `mirrors[0].kafka.key: "x-tenant", want id, method or metadata.NAME`},
		"a secret key":                {oneMirror(`kafka: {topic: a, key: metadata.cookie, brokers: ["a:1"]}`), `mirrors[0].kafka.key: "metadata.cookie", want a header that redact does not name`},
		"password in the clear":       {oneMirror(`kafka: {topic: a, brokers: ["a:1"], sasl: {mechanism: PLAIN, username: u, password_file: p}}`), `mirrors[0].kafka.sasl.mechanism: PLAIN without tls`},
		"sasl of nobody":              {oneMirror(`kafka: {topic: a, brokers: ["a:1"], sasl: {mechanism: OAUTH}}`), `mirrors[0].kafka.sasl.mechanism: "OAUTH", want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512`},
		"half a certificate":          {oneMirror(`kafka: {topic: a, brokers: ["a:1"], tls: {cert_file: c}}`), `mirrors[0].kafka.tls.cert_file: "c" and key_file: "", want both or none`},
		"no URL":                      {oneMirror(`elasticsearch: {index: i}`), `mirrors[0].elasticsearch.urls: 0, want 1 to 64`},
		"wrong URL":                   {oneMirror(`elasticsearch: {index: i, urls: ["ftp://a"]}`), `mirrors[0].elasticsearch.urls[0]: "ftp://a", want http://host:port or https://host:port`},
		"password in a URL":           {oneMirror(`elasticsearch: {index: i, urls: ["http://u:p@a:1"]}`), `mirrors[0].elasticsearch.urls[0]: `},
		"wrong index":                 {oneMirror(`elasticsearch: {index: A*, urls: ["http://a:1"]}`), `mirrors[0].elasticsearch.index: "A*", want 1 to 255`},
		"key in the clear":            {oneMirror(`elasticsearch: {index: i, api_key_file: k, urls: ["http://a:1"]}`), `beside api_key_file, want https`},
		"respond":                     {oneToMany + "respond: all", `respond: "all", want first`},
		"respond of the backends":     {oneToMany + `select: {types: [{field: "1", equals: 1, respond: true}]}`, `select.types[0].respond: want it in select of mirrors only`},
		"respond of a record":         {oneMirror("record: {path: /x}\nselect: {types: [{field: \"1\", equals: 1, respond: true}]}"), `mirrors[0].select.types: respond: true, want it for a mirror with backend only`},
		"respond to what is left out": {oneMirror(backend + `select: {contains: false, types: [{field: "1", equals: 1, respond: true}]}`), `respond: true beside contains: false`},
		"respond to some":             {oneMirror(backend + "percent: 10\nselect: {types: [{field: \"1\", equals: 1, respond: true}]}"), `mirrors[0].percent: 10 beside respond: true, want 100`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRoute([]byte(c.doc))
			require.ErrorContains(t, err, c.want)
		})
	}
	many := oneToMany + "mirrors:\n"
	for i := range MaxMirrors + 1 {
		many += fmt.Sprintf("- {name: m%d, backend: {service: s}}\n", i)
	}
	_, err := ParseRoute([]byte(many))
	require.ErrorContains(t, err, "mirrors: 17, want at most 16")
}

// Two mirrors that may answer one message are a mistake unless the route says who answers then.
func TestMirrors_OneAnswersEachMessage(t *testing.T) {
	two := func(first, second string) string {
		return oneToMany + "schema: {name: s}\nmirrors:\n" +
			"- {name: one, backend: {service: s}, select: {types: [{" + first + "}]}}\n" +
			"- {name: two, backend: {service: s}, select: {types: [{" + second + "}]}}\n"
	}
	const is1, is2 = `field: "1", equals: 1, respond: true`, `field: "1", equals: 2, respond: true`
	for name, c := range map[string]struct {
		first, second string
		clear         bool
	}{
		"other values":      {is1, is2, true},
		"same value":        {is1, is1, false},
		"other fields":      {is1, `field: "2", equals: 1, respond: true`, false},
		"one only listens":  {is1, `field: "1", equals: 1`, true},
		"a condition":       {is1, `when: message.a == 2, respond: true`, false},
		"number and text":   {is1, `field: "1", equals: "1", respond: true`, false},
		"texts":             {`field: "1", equals: a, respond: true`, `field: "1", equals: b, respond: true`, true},
		"true and false":    {`field: "1", equals: true, respond: true`, `field: "1", equals: false, respond: true`, true},
		"true and a number": {`field: "1", equals: true, respond: true`, is2, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRoute([]byte(two(c.first, c.second)))
			if c.clear {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, "mirrors[1].select.types[0]: respond: true beside mirrors[0].select.types[0]")
			_, err = ParseRoute([]byte(two(c.first, c.second) + "respond: first\n"))
			require.NoError(t, err)
		})
	}
}

func TestFanout_RefusesWhatIsWrong(t *testing.T) {
	fan := func(text string) string { return oneToMany + "fanout: {" + text + "}\n" }
	const from = "targets: {from: backend}"
	for _, good := range []string{
		from, "targets: {from: metadata, key: nodes, forward: true}, default_targets: one",
		from + ", mode: envelope, min_success: 2", from + ", mode: quorum, quorum: 2", from + ", mode: first",
		from + ", aggregate: {metadata_field: 0, node_field: 99}, methods: {unary: [/a.B/*]}",
	} {
		r, err := ParseRoute([]byte(fan(good)))
		require.NoError(t, err)
		doc, err := r.Encode()
		require.NoError(t, err)
		again, err := ParseRoute(doc)
		require.NoError(t, err)
		require.Equal(t, r, again)
	}
	for name, c := range map[string]struct{ doc, want string }{
		"no targets":             {fan("mode: first"), `fanout.targets.from: "", want metadata or backend`},
		"no key":                 {fan("targets: {from: metadata}"), `fanout.targets.key: ""`},
		"a key of gRPC":          {fan("targets: {from: metadata, key: grpc-timeout}"), `fanout.targets.key: "grpc-timeout"`},
		"a binary key":           {fan("targets: {from: metadata, key: nodes-bin}"), `fanout.targets.key: "nodes-bin"`},
		"a key of the backend":   {fan("targets: {from: backend, key: nodes}"), `fanout.targets.key: "nodes"`},
		"default_targets":        {fan("targets: {from: metadata, key: nodes}, default_targets: some"), `fanout.default_targets: "some", want all or one`},
		"mode":                   {fan(from + ", mode: any"), `fanout.mode: "any", want aggregate, envelope, first or quorum`},
		"order":                  {fan(from + ", order: best"), `fanout.order: "best", want arrival or targets`},
		"slow_target":            {fan(from + ", slow_target: skip"), `fanout.slow_target: "skip", want wait or drop`},
		"quorum of none":         {fan(from + ", mode: quorum"), `fanout.quorum: 0, want 1 to max_targets (64)`},
		"quorum of all":          {fan(from + ", mode: quorum, quorum: 3, max_targets: 2"), `fanout.quorum: 3, want 1 to max_targets (2)`},
		"quorum without mode":    {fan(from + ", quorum: 2"), `fanout.quorum: 2, want it with mode: quorum only`},
		"min_success":            {fan(from + ", min_success: 65"), `fanout.min_success: 65, want 1 to max_targets (64)`},
		"min_success of first":   {fan(from + ", mode: first, min_success: 1"), `fanout.min_success: 1, want it with mode`},
		"max_targets":            {fan(from + ", max_targets: 5000"), `fanout.max_targets: 5000, want 1 to 1024`},
		"deadline":               {fan(from + ", deadline_per_target: -1s"), `fanout.deadline_per_target: -1s`},
		"messages_field":         {fan(from + ", aggregate: {messages_field: 0}"), `fanout.aggregate.messages_field: 0, want the number`},
		"metadata_field":         {fan(from + ", aggregate: {metadata_field: 600000000}"), `fanout.aggregate.metadata_field: 600000000, want 0 (leave it out) or a field number`},
		"a reserved number":      {fan(from + ", aggregate: {messages_field: 19001}"), `fanout.aggregate.messages_field: 19001, want 0 (leave it out) or a field number of 1 to 536870911 but 19000 to 19999`},
		"two fields of a number": {fan(from + ", aggregate: {node_field: 2}"), `fanout.aggregate.error_field: 2, which node_field is too`},
		"aggregate of first":     {fan(from + ", mode: first, aggregate: {node_field: 4}"), `fanout.aggregate: want it with mode: aggregate only`},
		"unary":                  {fan(from + ", methods: {unary: [Say]}"), `fanout.methods.unary[0]: `},
		"hedge":                  {fan(from) + "hedge: {delay: 1s}\n", `hedge: beside fanout, want one of the two`},
		"more than endpoints":    {fan(from + ", min_success: 3"), `fanout.min_success: 3, want at most as many as backends[0] has endpoints (2)`},
		"a quorum of too many":   {fan(from + ", mode: quorum, quorum: 3"), `fanout.quorum: 3, want at most as many as backends[0] has endpoints (2)`},
		"a fraction":             {fan(from + ", min_success: 1.5"), `fanout.min_success: "1.5", want a whole number`},
		"no method":              {fan(from + ", methods: {unary: [null]}"), `fanout.methods.unary[0]: nothing, want a value`},
		"a header of others":     {fan("targets: {from: metadata, key: content-type}"), `fanout.targets.key: "content-type", want a header that`},
		"a node with a comma":    {strings.Replace(fan(from), "node: one", `node: "a,b"`, 1), `backends[0].endpoints[0].tags.node: "a,b", want a text without commas`},
		"a node with blanks":     {strings.Replace(fan(from), "node: one", `node: " a"`, 1), `backends[0].endpoints[0].tags.node: " a", want a text without commas, and without blanks`},
		"two nodes of a name":    {strings.Replace(fan(from), `{address: "127.0.0.1:2"}`, `{address: "127.0.0.1:2", tags: {node: one}}`, 1), `backends[0].endpoints[1].tags.node: "one", which endpoints[0] has too`},
		"queue":                  {fan(from + ", queue: {bytes: 1}"), `fanout.queue.bytes: 1, want 1KiB to 1GiB`},
		"too many tags":          {strings.Replace(oneToMany, "node: one", "node: "+strings.Repeat("x", 600), 1), `backends[0].endpoints[0].tags: "node"`},
		"respond":                {fan(from) + "mirrors: [{name: m, backend: {service: s}, select: {types: [{field: \"1\", equals: 1, respond: true}]}}]", "respond: true beside fanout"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRoute([]byte(c.doc))
			require.ErrorContains(t, err, c.want)
		})
	}
}
