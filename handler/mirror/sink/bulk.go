package sink

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/elastic/go-elasticsearch/v8/esutil"

	"github.com/framegate/framegate/resolver/spec"
)

const (
	// actionBytes is more than an action line takes: {"create":{"_id":"..."}}.
	actionBytes = 64
	// answerBytes bounds the part of a response that is about one record; what is more of all is not read.
	answerBytes = 4 << 10
	never       = 1 << 62 * time.Nanosecond
)

// errIncomplete says that a response does not have an answer for each record.
var errIncomplete = errors.New("the response does not have one answer for each record")

// bulk sends records with requests of the Bulk API, one after the other, by the official client's bulk indexer. The indexer
// tries nothing again, so bulk hands it one request's records, has it flush them, and returns the answers.
//
// It is used by one goroutine: reset, add, send.
type bulk struct {
	client  *elasticsearch.BaseClient
	http    *http.Transport
	dialer  *dialer // of https
	indexer esutil.BulkIndexer
	keyFile string
	limit   int // bytes of a request
	timeout time.Duration

	scratch []byte   // the record that add adds
	text    []byte   // all records
	records []record // parts of text

	// Set by send for the indexer's goroutine, which it wakes and waits for:
	ctx  context.Context
	sent []*document
}

// record is where a record is in text.
type record struct {
	id       string
	from, to int
}

// document is a record as the indexer reads it, with what became of it.
type document struct {
	bytes.Reader
	answer answer
	err    error // the request failed
}

// newBulk returns a bulk whose requests have at most limit bytes, or one record.
func newBulk(doc *spec.Elasticsearch, limit int64, timeout time.Duration) (*bulk, error) {
	b := &bulk{keyFile: doc.APIKeyFile, limit: int(limit), timeout: timeout, dialer: &dialer{&spec.ClientTLS{CAFile: doc.CAFile}}}
	b.http = &http.Transport{
		DialContext:         dialer{}.dial,
		DialTLSContext:      b.dialer.dial,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
	}
	var err error
	b.client, err = elasticsearch.NewBaseClient(elasticsearch.Config{
		Addresses: doc.URLs, Transport: b.http, DisableRetry: true, DisableMetaHeader: true,
	})
	if err != nil {
		return nil, err
	}
	b.indexer, err = esutil.NewBulkIndexer(esutil.BulkIndexerConfig{
		Client: b, Decoder: b, Index: url.PathEscape(doc.Index),
		NumWorkers: 1, FlushBytes: b.limit + 1, FlushInterval: never, // it flushes when send says so
		Header:       http.Header{"Content-Type": {"application/x-ndjson"}},
		FilterPath:   []string{"errors", "items.*.status", "items.*.error.type", "items.*.error.reason"},
		OnFlushStart: func(context.Context) context.Context { return b.ctx },
	})
	return b, err
}

// dial makes a connection to a URL.
func (b *bulk) dial(ctx context.Context, text string) (net.Conn, error) {
	address, err := addressOf(text)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(text, "https:") {
		return b.dialer.dial(ctx, "tcp", address)
	}
	return dialer{}.dial(ctx, "tcp", address)
}

// checkKey reports whether the API key can be read.
func (b *bulk) checkKey() error {
	_, err := b.key()
	return err
}

// key returns the API key, "" for none.
func (b *bulk) key() (string, error) {
	if b.keyFile == "" {
		return "", nil
	}
	key, err := readSecret(b.keyFile)
	if err != nil {
		return "", fmt.Errorf("API key file: %w", err)
	}
	return key, nil
}

// reset begins a request.
func (b *bulk) reset() { b.scratch, b.text, b.records = spare(b.scratch), spare(b.text), b.records[:0] }

// add adds the record in scratch to the request. It returns false if there is no room for it.
func (b *bulk) add(id string) bool {
	size := len(b.text) + len(b.scratch) + (len(b.records)+1)*actionBytes
	if len(b.records) > 0 && size > b.limit {
		return false
	}
	from := len(b.text)
	b.text = append(b.text, b.scratch...)
	b.records = append(b.records, record{id, from, len(b.text)})
	return true
}

// send sends the request. It returns an answer for each record, in their order, or why there are none.
func (b *bulk) send(ctx context.Context) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	b.ctx, b.sent = ctx, b.sent[:0]
	for range b.records {
		b.sent = append(b.sent, &document{err: errIncomplete})
	}
	for i, r := range b.records {
		d := b.sent[i]
		d.Reset(b.text[r.from:r.to])
		item := esutil.BulkIndexerItem{Action: "create", DocumentID: r.id, Body: d, OnSuccess: onSuccess, OnFailure: onFailure}
		if err := b.indexer.Add(context.Background(), item); err != nil { // ctx ends the request, not what makes it
			return nil, err
		}
	}
	if err := b.indexer.Flush(context.Background()); err != nil {
		return nil, err
	}
	answers := make([]answer, len(b.sent))
	for i, d := range b.sent {
		if d.err != nil {
			return nil, d.err
		}
		answers[i] = d.answer
	}
	return answers, nil
}

func onSuccess(_ context.Context, item esutil.BulkIndexerItem, res esutil.BulkIndexerResponseItem) {
	d := item.Body.(*document)
	d.answer, d.err = answer{status: res.Status}, nil
}

func onFailure(_ context.Context, item esutil.BulkIndexerItem, res esutil.BulkIndexerResponseItem, err error) {
	d := item.Body.(*document)
	d.answer, d.err = answer{res.Status, res.Error.Type, res.Error.Reason}, err
}

// UnmarshalFromReader implements esutil.BulkResponseJSONDecoder. It refuses what has not one answer for each record: the indexer
// forgets those that have none, and panics if there are more.
func (b *bulk) UnmarshalFromReader(r io.Reader, resp *esutil.BulkIndexerResponse) error {
	defer drain(r)
	if err := json.NewDecoder(r).Decode(resp); err != nil {
		return err
	}
	if len(resp.Items) != len(b.sent) {
		return fmt.Errorf("%w: %d for %d", errIncomplete, len(resp.Items), len(b.sent))
	}
	for _, item := range resp.Items {
		if a, ok := item["create"]; !ok || len(item) != 1 || a.Status < 200 {
			return errIncomplete
		}
	}
	return nil
}

// Perform implements esapi.Transport: it adds the API key, and returns a response other than 2xx as a *statusError.
func (b *bulk) Perform(req *http.Request) (*http.Response, error) {
	key, err := b.key()
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "ApiKey "+key)
	}
	res, err := b.client.Perform(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxReason))
		drain(res.Body)
		return nil, &statusError{res.StatusCode, strings.TrimSpace(string(text))}
	}
	res.Body = limited{io.LimitReader(res.Body, int64(len(b.sent)+1)*answerBytes), res.Body}
	return res, nil
}

// drain reads what is left of a response, if it is not much: the connection is kept only if nothing is left.
func drain(r io.Reader) { _, _ = io.CopyN(io.Discard, r, 64<<10) }

// limited is a response of which a part is read.
type limited struct {
	io.Reader
	io.Closer
}

// close ends what the clients have. Nothing is being sent.
func (b *bulk) close() {
	b.ctx = context.Background() // the indexer sends nothing: it has no records
	_ = b.indexer.Close(b.ctx)
	_ = b.client.Close(b.ctx)
	b.http.CloseIdleConnections()
}

// statusError is a response that is not about single records.
type statusError struct {
	code int
	text string // the begin of its body
}

// Error implements error.
func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("status %d %s: %s", e.code, http.StatusText(e.code), e.text))
}

// idMaker makes ids of documents that no other sink makes.
type idMaker string

func newIDMaker() idMaker {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return idMaker(base64.RawURLEncoding.EncodeToString(b[:]))
}

// id returns the id of the document of that number.
func (m idMaker) id(number uint64) string { return string(m) + "-" + strconv.FormatUint(number, 36) }
