package spec

import (
	"cmp"
	"time"
)

// Fanout sends a call to several endpoints of its backend and joins their answers into one.
type Fanout struct {
	Targets           FanoutTargets  `yaml:"targets"`
	DefaultTargets    DefaultTargets `yaml:"default_targets,omitempty"`     // when none is named; empty means all
	Methods           FanoutMethods  `yaml:"methods,omitempty"`             // what is known of methods without a schema
	Mode              FanoutMode     `yaml:"mode,omitempty"`                // empty means aggregate
	Aggregate         *Aggregate     `yaml:"aggregate,omitempty"`           // of mode aggregate; nil means its defaults
	Order             FanoutOrder    `yaml:"order,omitempty"`               // of the elements of one message; empty means arrival
	Quorum            int            `yaml:"quorum,omitempty"`              // of mode quorum: how many equal answers make the answer
	MinSuccess        int            `yaml:"min_success,omitempty"`         // how many targets must end with OK for the call to; 0 means 1
	DeadlinePerTarget time.Duration  `yaml:"deadline_per_target,omitempty"` // 0 means that of the call
	MaxTargets        int            `yaml:"max_targets,omitempty"`         // 0 means DefaultMaxTargets
	SlowTarget        SlowTarget     `yaml:"slow_target,omitempty"`         // empty means wait
	Queue             Queue          `yaml:"queue,omitempty"`               // of the request for each target
}

// FanoutTargets says which endpoints a call goes to.
type FanoutTargets struct {
	From    TargetsFrom `yaml:"from"`
	Key     string      `yaml:"key,omitempty"`     // of from: metadata; the name of a request header
	Forward bool        `yaml:"forward,omitempty"` // endpoints see the header, too
}

// TargetsFrom says where the names of targets come from.
type TargetsFrom string

// The values of TargetsFrom.
const (
	TargetsFromMetadata TargetsFrom = "metadata" // the client names endpoints, by address or by their tag node
	TargetsFromBackend  TargetsFrom = "backend"  // every endpoint of the backend
)

// DefaultTargets says where a call goes that names no target.
type DefaultTargets string

// The values of DefaultTargets.
const (
	DefaultTargetsAll DefaultTargets = "all"
	DefaultTargetsOne DefaultTargets = "one" // picked by the balancer
)

// FanoutMethods says what a schema would say of methods.
type FanoutMethods struct {
	Unary []string `yaml:"unary,omitempty"` // patterns of methods that answer with one message; see Pattern
}

// FanoutMode says how answers are joined.
type FanoutMode string

// The values of FanoutMode.
const (
	FanoutAggregate FanoutMode = "aggregate" // replies with the elements of all targets, each with who it is of
	FanoutEnvelope  FanoutMode = "envelope"  // framegate.v1.FanoutReply, whatever the replies are
	FanoutFirst     FanoutMode = "first"     // the first OK
	FanoutQuorum    FanoutMode = "quorum"    // what as many targets as Quorum answer alike
)

// Aggregate has the numbers of fields in replies. 0 leaves a field out.
type Aggregate struct {
	MessagesField *int `yaml:"messages_field,omitempty"` // of a reply: the list of elements; nil means 1
	MetadataField *int `yaml:"metadata_field,omitempty"` // of an element: the message that says who it is of; nil means 99
	NodeField     *int `yaml:"node_field,omitempty"`     // of that message: the target's name; nil means 1
	ErrorField    *int `yaml:"error_field,omitempty"`    // of that message: the text of the target's status; nil means 2
	StatusField   *int `yaml:"status_field,omitempty"`   // of that message: its google.rpc.Status; nil means 0
}

// FanoutOrder is the order of the elements of one message.
type FanoutOrder string

// The values of FanoutOrder.
const (
	OrderArrival FanoutOrder = "arrival"
	OrderTargets FanoutOrder = "targets" // in which the targets are named or listed
)

// SlowTarget says what happens when the queue of a target is full.
type SlowTarget string

// The values of SlowTarget.
const (
	SlowTargetWait SlowTarget = "wait" // the client and the other targets wait
	SlowTargetDrop SlowTarget = "drop" // they wait for a second; then the target's part of the call ends with RESOURCE_EXHAUSTED
)

// Defaults of a Fanout.
const (
	DefaultMaxTargets = 64
)

// TagNode is the tag of an endpoint by which clients may name it as a target.
const TagNode = "node"

// AggregateFields are the numbers of an Aggregate, with its defaults.
type AggregateFields struct{ Messages, Metadata, Node, Error, Status int }

// Fields returns the numbers; a may be nil.
func (a *Aggregate) Fields() AggregateFields {
	if a == nil {
		a = &Aggregate{}
	}
	or := func(n *int, number int) int {
		if n == nil {
			return number
		}
		return *n
	}
	return AggregateFields{or(a.MessagesField, 1), or(a.MetadataField, 99), or(a.NodeField, 1), or(a.ErrorField, 2), or(a.StatusField, 0)}
}

// Most returns how many targets a call may have.
func (f *Fanout) Most() int { return cmp.Or(f.MaxTargets, DefaultMaxTargets) }

// Wanted returns how many targets must end with OK for the call to.
func (f *Fanout) Wanted() int { return cmp.Or(f.MinSuccess, 1) }

// Joins returns the mode, with its default.
func (f *Fanout) Joins() FanoutMode { return cmp.Or(f.Mode, FanoutAggregate) }
