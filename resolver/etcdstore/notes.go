package etcdstore

import (
	"encoding/json"
	"maps"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/framegate/framegate/resolver/spec"
)

// Notes are what we write beside an instance into its document, for ourselves: registry-etcd takes no notice of it.
type Notes struct {
	// Leaving says that the instance is about to deregister. Its key is deleted next, and watches that have seen this know
	// that it was meant: the end of a lease, of which nobody was told, deletes keys just so.
	Leaving bool `json:"leaving,omitempty"`
	// Heartbeat says that a heartbeat of nobody in particular wrote it: the next one may renew its lease.
	Heartbeat bool `json:"heartbeat,omitempty"`
	// RegisteredWeight is the weight that the instance is registered with, if SetWeight gave it another one; else 0.
	RegisteredWeight int `json:"registered_weight,omitempty"`
}

// NotesOf returns the notes in the document of an instance, none if it has none or is no such document.
func NotesOf(doc []byte) (n Notes) {
	if json.Unmarshal(doc, &n) != nil {
		return Notes{}
	}
	return n
}

// rewritten returns the document of an instance with other values of some keys; nil takes a key away. All other keys stay,
// whoever they are for.
func rewritten(doc []byte, values map[string]any) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return nil, err
	}
	for key, value := range values {
		maps.DeleteFunc(fields, func(k string, _ json.RawMessage) bool { return strings.EqualFold(k, key) }) // as they are read
		if value == nil {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fields[key] = text
	}
	return json.Marshal(fields)
}

// noted is an instance as a heartbeat writes it.
type noted struct {
	spec.Instance
	Notes
}

// registering returns what a heartbeat of an instance is to write, or to find, in the place of kv, which may be nil.
func registering(in spec.Instance, kv *mvccpb.KeyValue, who *registrant) noted {
	now := noted{in, Notes{Heartbeat: who == nil}}
	set := 0
	if kv == nil && who != nil {
		set = who.weight
	}
	if kv != nil && (who == nil || who.held) {
		if held, err := spec.ParseInstance(kv.Value); err == nil && NotesOf(kv.Value).RegisteredWeight == in.Weight {
			set = held.Weight
		}
	}
	if set != 0 {
		now.Weight, now.RegisteredWeight = set, in.Weight
	}
	return now
}

// setWeight is the weight that SetWeight gave the instance; 0 for none.
func (n noted) setWeight() int {
	if n.RegisteredWeight == 0 {
		return 0
	}
	return n.Weight
}

// encode returns the document.
func (n noted) encode() ([]byte, error) {
	doc, err := n.Instance.Encode()
	if err != nil || n.Notes == (Notes{}) {
		return doc, err
	}
	values := map[string]any{}
	text, err := json.Marshal(n.Notes)
	if err == nil {
		err = json.Unmarshal(text, &values)
	}
	if err != nil {
		return nil, err
	}
	return rewritten(doc, values)
}
