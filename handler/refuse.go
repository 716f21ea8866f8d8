package handler

import (
	"net/http"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/handler/header"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/transserver"
)

// Refuse returns the transserver.Refuse of the listener: it answers requests that are not gRPC, which Kitex would reset
// without an answer. The observers are told of them as of calls without a route.
func (p *Proxy) Refuse(listener string) transserver.Refuse {
	return func(r *transserver.Refusal) transserver.Answer {
		e, status := refusalError(r)
		p.observeRefusal(listener, r, e)
		fields := []hpack.HeaderField{{Name: local.ReasonTrailer, Value: string(e.Reason)}}
		if status == http.StatusMethodNotAllowed {
			fields = append(fields, hpack.HeaderField{Name: "allow", Value: http.MethodPost}) // RFC 9110 §15.5.6
		}
		return transserver.Answer{Status: status, Code: int(e.Code), Message: e.Error(), Fields: fields}
	}
}

// observeRefusal tells the observers of a request that was refused.
func (p *Proxy) observeRefusal(listener string, r *transserver.Refusal, e *local.Error) {
	hearing := *p.observers.Load()
	if len(hearing) == 0 {
		return
	}
	rec := &Record{Start: time.Now(), Listener: listener, Code: e.Code, Reason: e.Reason, client: r.Client, md: metadata.MD{}}
	for _, f := range r.Fields {
		if f.Name == ":path" {
			rec.Method = f.Value
		}
		if !strings.HasPrefix(f.Name, ":") || f.Name == ":authority" {
			rec.md[f.Name] = append(rec.md[f.Name], f.Value)
		}
	}
	rec.authority = header.Authority(rec.md)
	var enders [maxObservers]EndObserver
	for i, o := range hearing {
		enders[i] = o.CallStarted(rec)
	}
	rec.Duration = time.Since(rec.Start)
	for _, e := range enders {
		if e != nil {
			e.CallEnded(rec)
		}
	}
}
