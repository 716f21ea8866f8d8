package admin

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/test/race"
)

// filled is a document of nearly 1 MiB.
func filled(begin, unit, end string) string {
	return begin + strings.Repeat(unit, (maxBodyBytes-len(begin)-len(end))/len(unit)) + end
}

// hostileDocuments are of the kinds that take most to parse or have most mistakes.
func hostileDocuments() []string {
	return []string{
		filled("", "a:\n", ""),
		filled("{", "a,", "}"),
		filled("backends: [", "1,", "]"),
		filled("name: a\nmatch: [{method: '*'}]\nbackends: [{endpoints: [", "{},", "]}]"),
		filled("a: &a [x]\nb: &b [", "*a,", "]\nc: [*b, *b]"),
		strings.Repeat("[", 9990),
		filled("a: *", "x", ""),
		"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nname: *c",
	}
}

// peakHeap returns the most that the heap takes while f runs.
func peakHeap(f func()) uint64 {
	runtime.GC()
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	return most.Load()
}

func TestServer_ManyLargeDocumentsAtOnceTakeBoundedMemory(t *testing.T) {
	c := startAPI(t, Config{Token: "s3cret"})
	var asking sync.WaitGroup
	documents, many := hostileDocuments(), race.Choose(16, 8) // the race detector takes several times the time
	peak := peakHeap(func() {
		for i := range many {
			asking.Go(func() {
				path := "/v1/routes/a"
				if i%8 == 7 {
					path = "/v1/services/echo/instances/127.0.0.1:1"
				}
				r, err := http.NewRequest("PUT", "http://"+c.server.Addr().String()+path, strings.NewReader(documents[i%len(documents)]))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer s3cret")
				resp, err := (&http.Client{Timeout: 5 * time.Minute}).Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != 400 && resp.StatusCode != 503 || len(body) > 2*maxMessageBytes {
					t.Errorf("%d with %d bytes, want 400 or 503 and a short list of mistakes", resp.StatusCode, len(body))
				}
			})
		}
		asking.Wait()
	})
	t.Logf("peak heap of %d documents: %d MiB", many, peak>>20)
	require.Less(t, peak, uint64(1<<30))
}

// Without the token, nothing of a document is read.
func TestServer_DocumentsWithoutTheTokenCostNothing(t *testing.T) {
	c := startAPI(t, Config{Token: "s3cret"})
	var asking sync.WaitGroup
	document := filled("", "a:\n", "")
	peak := peakHeap(func() {
		for range 40 {
			asking.Go(func() {
				resp, err := http.Post("http://"+c.server.Addr().String()+"/v1/routes/a", "", strings.NewReader(document))
				if err == nil { // or it was closed while the document was sent
					resp.Body.Close()
				}
			})
		}
		asking.Wait()
	})
	require.Less(t, peak, uint64(128<<20))
}

// What grows with the routes in force is made for a few requests at once, and who does not take it holds a bounded share.
func TestServer_LargeAnswersAreMadeForAFewAtOnce(t *testing.T) {
	var making, most atomic.Int64
	c := startAPI(t, Config{Control: Control{Routes: func() []resolver.RouteStatus {
		defer making.Add(-1)
		for now := making.Add(1); ; {
			seen := most.Load()
			if now <= seen || most.CompareAndSwap(seen, now) {
				break
			}
		}
		time.Sleep(5 * time.Millisecond) // so that they meet
		return nil
	}}})
	var asking sync.WaitGroup
	for range 40 {
		asking.Go(func() {
			resp, err := http.Get("http://" + c.server.Addr().String() + "/v1/routes")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Error(fmt.Errorf("status %d, want 200", resp.StatusCode))
			}
		})
	}
	asking.Wait()
	require.LessOrEqual(t, most.Load(), int64(maxAnswers))
}
