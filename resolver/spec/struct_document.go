package spec

import (
	"reflect"

	"gopkg.in/yaml.v3"
)

// SchemaRef says where the message types of a route's calls come from. Exactly one of Name, Files and Reflection is set.
type SchemaRef struct {
	Name       string   `yaml:"name,omitempty"`       // of a schema in etcd
	Files      []string `yaml:"files,omitempty"`      // .proto files or FileDescriptorSets; in a routes file only, relative to it
	Imports    []string `yaml:"imports,omitempty"`    // directories that .proto files and their imports are relative to; none means those of Files
	Reflection bool     `yaml:"reflection,omitempty"` // asks the endpoints (grpc.reflection.v1 or v1alpha)
}

// OnDecodeError says what happens to a message that cannot be decoded.
type OnDecodeError string

// The values of OnDecodeError.
const (
	DecodeErrorReject OnDecodeError = "reject" // the call ends with INVALID_ARGUMENT; the default
	DecodeErrorPass   OnDecodeError = "pass"   // the message is forwarded as it came, without the rules
)

// Struct says what struct mode does with the messages of a route.
type Struct struct {
	OnDecodeError OnDecodeError `yaml:"on_decode_error,omitempty"` // empty means reject
	Rules         []Rule        `yaml:"rules,omitempty"`           // applied to each message in this order
}

// Direction is the way that a message goes.
type Direction string

// The directions.
const (
	OnRequest  Direction = "request"
	OnResponse Direction = "response"
)

// Action is what a rule does.
type Action string

// The actions.
const (
	ActionReject Action = "reject" // ends the call with Status
	ActionDrop   Action = "drop"   // takes the message out of its stream; a single message ends the call with Status
	ActionSet    Action = "set"    // gives Fields new values
	ActionClear  Action = "clear"  // takes the values of Fields away
	ActionRedact Action = "redact" // makes the values of Fields unreadable
	ActionRoute  Action = "route"  // sends the call to Backend; decided by the first message that is forwarded
	ActionHeader Action = "header" // sets request headers; decided by the first message that is forwarded
)

// Rule is one step that messages of one direction go through. Its expressions are CEL (cel.dev), with the variables message,
// metadata, method, peer, now and index.
type Rule struct {
	On      Direction         `yaml:"on"`
	Method  string            `yaml:"method,omitempty"` // see Pattern; empty means all methods of the route
	When    string            `yaml:"when,omitempty"`   // gives a bool; empty means always
	Action  Action            `yaml:"action"`
	Status  *RuleStatus       `yaml:"status,omitempty"`  // of reject and drop
	Fields  RuleFields        `yaml:"fields,omitempty"`  // of set, clear and redact
	Backend string            `yaml:"backend,omitempty"` // of route: the name of a backend of this route, which may have the weight 0
	Set     map[string]string `yaml:"set,omitempty"`     // of header: names and the expressions of their values
}

// RuleStatus is what the client of a rejected call gets.
type RuleStatus struct {
	Code    string `yaml:"code"` // gRPC's name of it, such as PERMISSION_DENIED; not OK
	Message string `yaml:"message,omitempty"`
}

// RuleFields are fields of a message by path: names joined by dots, name[] for each element of a repeated field or each
// value of a map, name["key"] for one value of a map. In a document they are a list of paths or, for the action set,
// paths with an expression for each.
type RuleFields struct {
	Paths  []string
	Values map[string]string // expressions by path
}

// IsZero reports whether there are no fields.
func (f RuleFields) IsZero() bool { return len(f.Paths) == 0 && len(f.Values) == 0 }

// Shape implements strict.Shaper: a node is a list of paths, or a map of expressions by path.
func (RuleFields) Shape(n *yaml.Node) reflect.Type {
	if n.Kind == yaml.MappingNode {
		return reflect.TypeFor[map[string]string]()
	}
	return reflect.TypeFor[[]string]()
}

// UnmarshalYAML decodes a list of paths, or a map of expressions by path.
func (f *RuleFields) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		return n.Decode(&f.Values)
	}
	return n.Decode(&f.Paths)
}

// MarshalYAML encodes what UnmarshalYAML decodes.
func (f RuleFields) MarshalYAML() (any, error) {
	if f.Values != nil {
		return f.Values, nil
	}
	return f.Paths, nil
}
