package mirror

import (
	"context"
	"reflect"
	"time"

	"github.com/framegate/framegate/handler/mirror/sink"
	"github.com/framegate/framegate/handler/mirror/tape"
	"github.com/framegate/framegate/resolver/spec"
)

// outlet is what gets the copies of a mirror without a backend: it stays as long as routes in force have the mirror, and its document is
// the same.
type outlet interface {
	begin(m *Mirror, c *Call) receiver
	status(st *Status)
	// close delivers what waits, until ctx ends.
	close(ctx context.Context)
}

// outletDocument is the part of a mirror's document that its outlet depends on.
type outletDocument struct {
	record  *spec.Record
	kafka   *spec.Kafka
	elastic *spec.Elasticsearch
	queue   spec.Queue
}

func outletDocumentOf(m *spec.Mirror) outletDocument {
	return outletDocument{m.Record, m.Kafka, m.Elasticsearch, m.Queue}
}

// closeTime is how long an outlet may take to deliver what waits when it is closed.
const closeTime = 5 * time.Second

// setOutlet gives the mirror the outlet that its document asks for, unless it has that. The registry's mu is held.
func (r *Registry) setOutlet(s *state, route string, doc *spec.Mirror) {
	want := outletDocumentOf(doc)
	if s.outlet.Load() != nil && reflect.DeepEqual(s.outletOf, want) {
		return
	}
	r.closeOutlet(s)
	if doc.Backend != nil {
		return
	}
	o, err := r.openOutlet(route, doc)
	if err != nil { // of a document that was not checked
		r.cfg.Log.Error("a mirror cannot be made", "route", route, "mirror", doc.Name, "error", err)
		return
	}
	s.outletOf = want
	s.outlet.Store(&opened{o})
}

// opened is an outlet that an atomic.Pointer can hold.
type opened struct{ outlet }

// openOutlet makes the outlet of a mirror. It never needs a server or a directory to be there.
func (r *Registry) openOutlet(route string, doc *spec.Mirror) (outlet, error) {
	cfg := sink.Config{Name: doc.Name, Queue: doc.Queue, Log: r.cfg.Log}
	var to sink.Sink
	var err error
	switch {
	case doc.Record != nil:
		return recorder{tape.Open(tape.ConfigOf(route, doc, r.cfg.Log))}, nil
	case doc.Kafka != nil:
		to, err = sink.NewKafka(doc.Kafka, cfg)
	default:
		to, err = sink.NewElasticsearch(doc.Elasticsearch, cfg)
	}
	return deliverer{to}, err
}

// closeOutlet closes the outlet of a mirror in the background, if it has one.
func (r *Registry) closeOutlet(s *state) {
	if o := s.outlet.Swap(nil); o != nil {
		r.work.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), closeTime)
			defer cancel()
			o.close(ctx)
		})
	}
}
