package etcdstore

import (
	"encoding/json"
	"maps"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/framegate/framegate/resolver/spec"
)

// Notes are keys that framegate writes into the document of an instance for its own use. registry-etcd ignores them.
type Notes struct {
	// Leaving says that the instance is about to deregister. When its key is deleted next, watches that have seen this can
	// tell that from the end of its lease, which deletes the key in the same way.
	Leaving bool `json:"leaving,omitempty"`
	// Heartbeat says that Services.Heartbeat wrote the instance, so that the next call of it may renew the lease.
	Heartbeat bool `json:"heartbeat,omitempty"`
	// RegisteredWeight is the weight that the instance is registered with, if SetWeight gave it another one; else 0.
	RegisteredWeight int `json:"registered_weight,omitempty"`
}

// NotesOf returns the notes in the document of an instance; the zero value if it has none or cannot be parsed.
func NotesOf(doc []byte) (n Notes) {
	if json.Unmarshal(doc, &n) != nil {
		return Notes{}
	}
	return n
}

// rewritten returns the document of an instance with other values for some keys; a nil value removes the key. All other keys
// stay, also those that framegate does not know.
func rewritten(doc []byte, values map[string]any) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return nil, err
	}
	for key, value := range values {
		maps.DeleteFunc(fields, func(k string, _ json.RawMessage) bool { return strings.EqualFold(k, key) }) // keys are read without regard to case
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

// noted is an instance with its notes, as a heartbeat writes it.
type noted struct {
	spec.Instance
	Notes
}

// registering returns what the document of an instance is to be after a heartbeat. kv is the document now; nil if there is
// none.
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

// setWeight returns the weight that SetWeight gave the instance; 0 if it gave none.
func (n noted) setWeight() int {
	if n.RegisteredWeight == 0 {
		return 0
	}
	return n.Weight
}

// encode returns the document of the instance with its notes.
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
