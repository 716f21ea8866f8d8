package etcdstore

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// WeightChange is the result of SetWeight.
type WeightChange struct {
	Outcome  match.Outcome // Updated or Unchanged
	Address  string        // of the instance
	Was      int           // the weight before
	Revision int64         // of the last change of the instance
}

// SetWeight gives a registered instance another weight, 1 to MaxWeight. The instance stays on its lease, and all other keys
// of its document stay. The new weight lasts until the instance is registered anew: by a new Registration, by a heartbeat
// with another weight than before, or by a Kitex server whose lease was lost. The error is ErrNotFound if there is no such
// instance.
func (s *Services) SetWeight(ctx context.Context, service, address string, weight int) (WeightChange, error) {
	if err := spec.ValidateWeight(weight); err != nil {
		return WeightChange{}, fmt.Errorf("weight: %w", err)
	}
	w := &weighing{Write: etcdclient.NewWrite(s.cli), keys: s.keysOf(service, address), weight: weight}
	for conflicts := 0; conflicts < etcdclient.MaxConflicts; {
		done, stored, err := w.try(ctx)
		switch {
		case err == nil && stored:
			return done, nil
		case err == nil:
			conflicts++
		case !w.Again(ctx, err):
			return WeightChange{}, serviceError("set the weight of", service, address, w.Write, err)
		}
	}
	return WeightChange{}, serviceError("set the weight of", service, address, w.Write, etcdclient.ErrConflict)
}

// weighing is one call of SetWeight.
type weighing struct {
	*etcdclient.Write
	keys   []string // that the instance may have
	weight int
	sent   WeightChange // the result if the last try has an effect
}

// try stores the weight, in one try. If another client wrote the instance between its read and its write, it stores nothing
// and returns false.
func (w *weighing) try(ctx context.Context) (WeightChange, bool, error) {
	reads := make([]clientv3.Op, len(w.keys))
	for i, key := range w.keys {
		reads[i] = clientv3.OpGet(key)
	}
	before, err := w.Read(ctx, reads...)
	if err != nil {
		return WeightChange{}, false, err
	}
	var conditions []clientv3.Cmp
	var writes []clientv3.Op
	result := WeightChange{Outcome: match.Unchanged}
	var errs []error
	for i, key := range w.keys {
		kvs := before.Responses[i].GetResponseRange().Kvs
		if len(kvs) == 0 {
			continue
		}
		in, err := spec.ParseInstance(kvs[0].Value)
		if err != nil {
			errs = append(errs, &InstanceError{Key: key, Revision: kvs[0].ModRevision, Err: err})
			continue
		}
		result.Address, result.Was, result.Revision = in.Address, in.Weight, max(result.Revision, kvs[0].ModRevision)
		if in.Weight == w.weight {
			continue
		}
		doc, err := reweighed(kvs[0].Value, in.Weight, w.weight)
		if err != nil {
			return WeightChange{}, false, err
		}
		result.Outcome = match.Updated
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "=", kvs[0].ModRevision))
		writes = append(writes, clientv3.OpPut(key, string(doc), clientv3.WithIgnoreLease()))
	}
	switch {
	case result.Address == "" && len(errs) > 0:
		return WeightChange{}, false, errors.Join(errs...)
	case result.Address == "":
		return WeightChange{}, false, ErrNotFound
	case len(writes) == 0:
		if w.Unsure { // a try that was not answered has stored it
			w.sent.Revision = result.Revision
			return w.sent, true, nil
		}
		return result, true, nil
	}
	w.sent = result
	after, err := w.Commit(ctx, conditions, writes...)
	if err != nil || !after.Succeeded {
		return WeightChange{}, false, err
	}
	result.Revision = after.Header.Revision
	return result, true, nil
}

// reweighed returns the document of an instance, which has the weight was, with another weight.
func reweighed(doc []byte, was, weight int) ([]byte, error) {
	registered := NotesOf(doc).RegisteredWeight
	if registered == 0 {
		registered = was
	}
	values := map[string]any{"weight": weight, "registered_weight": registered}
	if weight == registered {
		values["registered_weight"] = nil
	}
	return rewritten(doc, values)
}
