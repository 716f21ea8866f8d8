package rule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"google.golang.org/grpc/codes"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

const (
	maxRules  = 64
	maxFields = 64 // fields, or headers, of one rule
)

// draft is a rule of a document, parsed and checked as far as possible without a schema. It is compiled for each type of
// message.
type draft struct {
	doc     *spec.Rule
	key     string        // struct.rules[i]
	faulty  bool          // it has mistakes and must not be compiled
	pattern *spec.Pattern // of method; nil if the rule is for all methods
	action  Action

	code    codes.Code
	message string
	when    *text
	values  []field // of set
	fields  []field // of clear and redact
	headers []text  // of header, sorted by name
}

// text is an expression of a document.
type text struct {
	key    string // where it stands in the document
	name   string // of the header whose value it is; empty for other expressions
	source string
}

// field is a path of a document, with the expression of its value if the action is set.
type field struct {
	key  string // where it stands in the document
	path path
	text text
}

// drafter parses the rules of a document, and collects their mistakes.
type drafter struct {
	env    *environment
	drafts []*draft
	tests  []test
	errs   []error
}

func (d *drafter) fail(key, format string, args ...any) {
	d.errs = append(d.errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

// Check returns what is wrong with the rules of r as far as that does not depend on a schema: keys of the document, the
// syntax of expressions and paths, and the types of expressions that do not use message. r.Struct may be nil.
func Check(r *spec.Route) error {
	env, err := newEnvironment(nil)
	if err != nil {
		return err
	}
	d := &drafter{env: env}
	d.route(r)
	for _, t := range d.tests {
		a, problems := env.check(t.source, nil)
		for _, p := range problems {
			d.fail(t.text.key, "%v", p)
		}
		if a != nil && len(problems) == 0 {
			if err := resultIs(a.OutputType(), cel.BoolType); err != nil {
				d.fail(t.text.key, "%v", wholeOf(a, err.Error()))
			}
		}
	}
	for _, draft := range d.drafts {
		if draft.faulty {
			continue
		}
		for _, t := range draft.texts() {
			a, problems := env.check(t.source, nil)
			for _, p := range problems {
				d.fail(t.key, "%v", p)
			}
			if a != nil && len(problems) == 0 {
				if err := draft.resultFault(t, a.OutputType()); err != nil {
					d.fail(t.key, "%v", wholeOf(a, err.Error()))
				}
			}
		}
	}
	return strict.Join(d.errs)
}

// texts returns all expressions of the rule.
func (d *draft) texts() []text {
	var all []text
	if d.when != nil {
		all = append(all, *d.when)
	}
	for _, f := range d.values {
		all = append(all, f.text)
	}
	return append(all, d.headers...)
}

// route parses the rules of a route into drafts, and its conditions on messages into tests.
func (d *drafter) route(r *spec.Route) {
	d.conditions(r)
	if r.Struct == nil {
		return
	}
	rules := r.Struct.Rules
	if len(rules) > maxRules {
		d.fail("struct.rules", "%d rules, want at most %d", len(rules), maxRules)
		rules = rules[:maxRules]
	}
	for i := range rules {
		before := len(d.errs)
		draft := &draft{doc: &rules[i], key: fmt.Sprintf("struct.rules[%d]", i)}
		d.rule(r, draft)
		draft.faulty = len(d.errs) > before
		d.drafts = append(d.drafts, draft)
	}
}

// rule parses one rule into draft.
func (d *drafter) rule(r *spec.Route, draft *draft) {
	doc := draft.doc
	switch doc.On {
	case spec.OnRequest, spec.OnResponse:
	default:
		d.fail(draft.key+".on", "%q, want request or response", doc.On)
	}
	if doc.Method != "" {
		p, err := spec.ParsePattern(doc.Method)
		if err != nil {
			d.fail(draft.key+".method", "%v", err)
		}
		draft.pattern = &p
	}
	if doc.When != "" {
		draft.when = &text{key: draft.key + ".when", source: doc.When}
		d.text(*draft.when)
	}
	i := slices.Index(actionNames[:], string(doc.Action))
	if i < 0 {
		d.fail(draft.key+".action", "%q, want %s or %s", doc.Action,
			strings.Join(actionNames[:NumActions-1], ", "), actionNames[NumActions-1])
		return
	}
	draft.action = Action(i)
	if (draft.action == ActionRoute || draft.action == ActionHeader) && doc.On == spec.OnResponse {
		d.fail(draft.key+".on", "response, want request for the action %s", doc.Action)
	}
	d.keys(draft)
	switch draft.action {
	case ActionReject, ActionDrop:
		d.status(draft)
	case ActionSet:
		d.values(draft)
	case ActionClear, ActionRedact:
		d.paths(draft)
	case ActionRoute:
		d.backend(r, draft)
	case ActionHeader:
		d.headers(draft)
	}
}

// keys checks that the rule has no keys that belong to other actions.
func (d *drafter) keys(draft *draft) {
	doc := draft.doc
	for _, k := range []struct {
		name  string
		given bool
		of    []Action
	}{
		{"status", doc.Status != nil, []Action{ActionReject, ActionDrop}},
		{"fields", doc.Fields.Paths != nil || doc.Fields.Values != nil, []Action{ActionSet, ActionClear, ActionRedact}},
		{"backend", doc.Backend != "", []Action{ActionRoute}},
		{"set", doc.Set != nil, []Action{ActionHeader}},
	} {
		if k.given && !slices.Contains(k.of, draft.action) {
			d.fail(draft.key+"."+k.name, "given, want none with the action %s", doc.Action)
		}
	}
}

func (d *drafter) status(draft *draft) {
	draft.code = codes.PermissionDenied
	if draft.action == ActionDrop {
		draft.code = codes.FailedPrecondition
	}
	s := draft.doc.Status
	if s == nil {
		return
	}
	draft.message = s.Message
	if len(s.Message) > maxExpressionBytes {
		d.fail(draft.key+".status.message", "%d bytes, want at most %d", len(s.Message), maxExpressionBytes)
	}
	if s.Code == "" {
		return
	}
	var c codes.Code
	if err := c.UnmarshalJSON([]byte(`"` + s.Code + `"`)); err != nil || c == codes.OK {
		d.fail(draft.key+".status.code", "%q, want the name of a gRPC code such as PERMISSION_DENIED, not OK", s.Code)
		return
	}
	draft.code = c
}

func (d *drafter) values(draft *draft) {
	doc := draft.doc.Fields
	if doc.Paths != nil {
		d.fail(draft.key+".fields", "a list, want paths with an expression for each")
		return
	}
	if !d.count(draft.key+".fields", len(doc.Values)) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Values)) {
		key := fmt.Sprintf("%s.fields[%q]", draft.key, name)
		t := text{key: key, source: doc.Values[name]}
		d.text(t)
		if p, ok := d.path(key, name); ok {
			for _, f := range draft.values {
				if p.within(f.path) || f.path.within(p) {
					d.fail(key, "the same as, or a part of, %s, want fields apart from each other",
						strings.TrimPrefix(f.key, draft.key+"."))
				}
			}
			draft.values = append(draft.values, field{key: key, path: p, text: t})
		}
	}
}

func (d *drafter) paths(draft *draft) {
	doc := draft.doc.Fields
	if doc.Values != nil {
		d.fail(draft.key+".fields", "expressions, want a list of paths for the action %s", draft.doc.Action)
		return
	}
	if !d.count(draft.key+".fields", len(doc.Paths)) {
		return
	}
	for i, name := range doc.Paths {
		key := fmt.Sprintf("%s.fields[%d]", draft.key, i)
		if p, ok := d.path(key, name); ok {
			draft.fields = append(draft.fields, field{key: key, path: p})
		}
	}
}

// count checks that there are 1 to maxFields fields or headers.
func (d *drafter) count(key string, n int) bool {
	switch {
	case n == 0:
		d.fail(key, "none, want at least one")
	case n > maxFields:
		d.fail(key, "%d, want at most %d", n, maxFields)
	}
	return n > 0 && n <= maxFields
}

func (d *drafter) path(key, name string) (path, bool) {
	p, err := parsePath(name)
	if err != nil {
		d.fail(key, "%v", err)
	}
	return p, err == nil
}

// text checks the syntax of an expression.
func (d *drafter) text(t text) {
	for _, p := range d.env.parse(t.source) {
		d.fail(t.key, "%v", p)
	}
}

func (d *drafter) backend(r *spec.Route, draft *draft) {
	var names []string
	for _, b := range r.Backends {
		if b.Name != "" {
			names = append(names, b.Name)
		}
	}
	switch name := draft.doc.Backend; {
	case name != "" && slices.Contains(names, name):
	case len(names) == 0:
		d.fail(draft.key+".backend", "%q, want the name of a backend of the route, and none has a name", name)
	default:
		d.fail(draft.key+".backend", "%q, want the name of a backend of the route: %s", name, strings.Join(names, ", "))
	}
}

func (d *drafter) headers(draft *draft) {
	if !d.count(draft.key+".set", len(draft.doc.Set)) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(draft.doc.Set)) {
		t := text{key: draft.key + ".set." + name, name: name, source: draft.doc.Set[name]}
		if err := checkHeaderName(name); err != nil {
			d.fail(t.key, "%v", err)
		}
		d.text(t)
		draft.headers = append(draft.headers, t)
	}
}

// reservedHeaders are headers that a header rule must not set, because they are not metadata: HTTP/2 and gRPC use them.
var reservedHeaders = []string{
	"connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection", "te", "trailer",
	"transfer-encoding", "upgrade", "user-agent", "via",
}

const maxHeaderName = 256

func checkHeaderName(name string) error {
	if name == "" || len(name) > maxHeaderName {
		return fmt.Errorf("a name of %d bytes, want 1 to %d", len(name), maxHeaderName)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return errors.New("want a name of a-z, 0-9, _, . and -")
		}
	}
	switch {
	case slices.Contains(reservedHeaders, name), strings.HasPrefix(name, "grpc-"):
		return errors.New("a reserved name, want another")
	case strings.HasSuffix(name, "-bin"):
		return errors.New("a name of binary metadata, want one that does not end in -bin")
	}
	return nil
}
