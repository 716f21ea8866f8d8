package mirrors

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/test/testbed"
)

// record is a message as a sink has it.
type record struct {
	ID, Route, Method, Direction string
	Time                         time.Time
	Metadata                     map[string]string
	Payload                      []byte
	Message                      json.RawMessage
}

func recordOf(t testing.TB, text []byte) (r record) {
	t.Helper()
	require.NoError(t, json.Unmarshal(text, &r), "%s", text)
	return r
}

// Each selected message of a request, and those of the answers if they are wanted, becomes a record in the topic.
func TestKafka_GetsARecordForEachMessage(t *testing.T) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "calls"))
	require.NoError(t, err)
	defer broker.Close()
	echo := newReceiver(t)
	p := testbed.NewProxy(t, route(echo.addr, "frame", fmt.Sprintf("mirrors: [{name: topic, responses: true, kafka: {brokers: [%q], topic: calls, key: metadata.x-tenant}, select: {types: [{field: \"1\", equals: 2}]}}]", broker.ListenAddrs()[0])))
	ctx := metadata.AppendToOutgoingContext(within(t), "x-tenant", "gold", "authorization", "secret")
	cc := testbed.DialGRPC(t, p.Addr)
	one, two := typed(1, "a"), typed(2, "b")
	for _, messages := range [][]string{{one}, {two}} {
		_, err := makeCall(ctx, t, cc, messages...)
		require.NoError(t, err)
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.ConsumeTopics("calls"))
	require.NoError(t, err)
	defer reader.Close()
	var got []*kgo.Record
	for len(got) < 2 {
		fetches := reader.PollFetches(within(t))
		require.NoError(t, fetches.Err())
		got = append(got, fetches.Records()...)
	}
	require.Len(t, got, 2)
	for i, direction := range []string{"request", "response"} {
		require.Equal(t, "gold", string(got[i].Key))
		r := recordOf(t, got[i].Value)
		require.Equal(t, fmt.Sprint("all /test.Raw/Call ", direction, " ", two), fmt.Sprint(r.Route, " ", r.Method, " ", r.Direction, " ", string(r.Payload)))
		require.Len(t, r.ID, 32)
		require.WithinDuration(t, time.Now(), r.Time, time.Minute)
		require.Equal(t, "gold", r.Metadata["x-tenant"])
		require.Equal(t, "[REDACTED]", r.Metadata["authorization"])
	}
	testbed.Poll(t, func() error {
		if st := p.Mirror("topic"); st.State != "up" || st.Calls != 1 || st.Messages != 2 || st.Waiting != 0 {
			return fmt.Errorf("state %+v", st)
		}
		return nil
	})
}

// With a schema, a record has the message as well, without what the route's rules hide.
func TestElasticsearch_GetsADocumentForEachMessage(t *testing.T) {
	docs := make(chan []byte, 10)
	index := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		w.Header().Set("Content-Type", "application/json")
		items := ""
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			if !lines.Scan() {
				http.Error(w, "an action without a document", http.StatusBadRequest)
				return
			}
			docs <- append([]byte{}, lines.Bytes()...)
			items += `,{"create": {"status": 201}}`
		}
		if items != "" {
			items = items[1:]
		}
		_, _ = io.WriteString(w, `{"errors": false, "items": [`+items+`]}`)
	}))
	defer index.Close()
	backend := newShop(t, "")
	p := testbed.NewProxy(t, shopRoute(t, backend.addr, fmt.Sprintf(`
mode: struct
struct: {rules: [{on: request, when: "false", action: redact, fields: [item]}]}
mirrors: [{name: index, elasticsearch: {urls: [%q], index: calls}}]
`, index.URL)))
	buy(t, p, "tea", "gold")
	r := recordOf(t, testbed.Await(t, docs, "a document"))
	require.Equal(t, "shop /shop.Shop/Price request", fmt.Sprint(r.Route, " ", r.Method, " ", r.Direction))
	require.JSONEq(t, `{"item": "[REDACTED]"}`, string(r.Message))
	require.Empty(t, r.Payload, "it would show what is hidden")

	p = testbed.NewProxy(t, shopRoute(t, backend.addr, fmt.Sprintf("mirrors: [{name: index, elasticsearch: {urls: [%q], index: calls}}]\n", index.URL)))
	buy(t, p, "tea", "gold")
	r = recordOf(t, testbed.Await(t, docs, "a document"))
	require.JSONEq(t, `{"item": "tea"}`, string(r.Message))
	require.Equal(t, "\n\x03tea", string(r.Payload))
}

// A broker that cannot be reached shows in the mirror's state. It keeps no route from being put, and holds up no call.
func TestKafka_Unreachable(t *testing.T) {
	ln, err := net.Listen("tcp", testbed.OwnHost()+":0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	ln.Close()
	echo := newReceiver(t)
	p := testbed.NewProxy(t, route(echo.addr, "frame", fmt.Sprintf("mirrors: [{name: topic, queue: {messages: 3}, kafka: {brokers: [%q], topic: calls}}]", addr)))
	cc := testbed.DialGRPC(t, p.Addr)
	began := time.Now()
	for range 10 {
		_, err := makeCall(within(t), t, cc, "m")
		require.NoError(t, err)
	}
	require.Less(t, time.Since(began), 5*time.Second)
	testbed.Poll(t, func() error {
		if st := p.Mirror("topic"); st.State != "down" || st.Error == "" || st.Waiting != 3 || st.Dropped["queue_full"] != 7 {
			return fmt.Errorf("state %+v", st)
		}
		return nil
	})
}
