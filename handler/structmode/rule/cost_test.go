package rule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestCompile_TakesExpressionsThatPeopleWrite(t *testing.T) {
	for _, when := range []string{
		`message.name == "x"`,
		`message.name.lowerAscii().contains("abc") || message.name.replace("a", "b").startsWith("c")`,
		`message.tags.exists(x, x == "a")`,
		`message.tags.exists(x, x.contains("abc"))`,
		`message.cards.exists(c, c.number.matches("^4[0-9]{12}$") && c.month > 1)`,
		`message.cards.map(c, c.number).exists(x, x.lowerAscii() == "a")`,
		`message.labels.exists(k, k.startsWith("x-") && message.labels[k] == "x")`,
		`message.attributes["x"].exists(a, a == 1)`,
		`[1, 2, 3].exists(a, message.numbers.exists(b, a == b))`,
		`message.extras.exists(e, e.name == "x")`,
		`message.tags.join(",").contains("a")`,
		`message.tags.filter(x, x != "").size() > 3 && message.numbers.all(n, n > 0)`,
	} {
		_, err := Compile(routeOf(t, "- {on: request, when: '"+when+"', action: reject}"), shop(t))
		require.NoError(t, err, when)
	}
}

func TestCompile_RefusesWhatCostsTooMuch(t *testing.T) {
	for _, when := range []string{
		`message.numbers.exists(a, message.numbers.exists(b, a == b))`,
		`message.numbers.all(a, message.numbers.all(b, true))`,
		`message.tags.exists(a, a in message.tags)`,
		`message.tags.all(a, message.tags.join(a) != "")`,
		`message.tags.map(a, message.tags.map(b, a + b)).size() > 1`,
		`metadata.exists(a, message.numbers.exists(b, b == 1))`,
		`message.cards.exists(c, c.tags.exists(t, t == message.name))`,
		`message.tags.exists(a, a.replace("a", message.name).replace("b", a) == "final")`,
	} {
		_, err := Compile(routeOf(t, "- {on: request, when: '"+when+"', action: reject}"), shop(t))
		require.ErrorContains(t, err, ": costs up to ", when)
		require.ErrorContains(t, err, ", want at most 1000000: ", when)
	}
	_, err := Compile(routeOf(t, `- {on: request, when: 'message.numbers.exists(a, message.numbers.exists(b, a == b))', action: reject}`), shop(t))
	require.EqualError(t, err, "struct.rules[0].when: 1:23: costs up to 7007003, want at most 1000000: "+
		"loops in loops and long texts in loops do that"+both)
}

// order is a request with the given name and tags.
func order(r *Rules, name string, tags []string, numbers int) protoreflect.Message {
	m := r.New()
	fields := m.Descriptor().Fields()
	m.Set(fields.ByName("name"), protoreflect.ValueOfString(name))
	list := m.Mutable(fields.ByName("tags")).List()
	for _, tag := range tags {
		list.Append(protoreflect.ValueOfString(tag))
	}
	ints := m.Mutable(fields.ByName("numbers")).List()
	for i := range numbers {
		ints.Append(protoreflect.ValueOfInt32(int32(i)))
	}
	return m
}

func TestApply_StopsWhatTheMessageMakesTooExpensive(t *testing.T) {
	const limit, slow = "costs more than 1000000", "takes longer than 1s"
	long := strings.Repeat("a", 200<<10)
	tags := make([]string, 20_000)
	for i := range tags {
		tags[i] = strings.Repeat("b", 30)
	}
	for _, c := range []struct {
		action, want string
		name         string
		tags         []string
		numbers      int
	}{
		{`reject, when: 'message.numbers.exists(n, n < 0)'`, limit, "", nil, 1_100_000},
		{`reject, when: 'message.numbers.exists(n, size(message.name) == n)'`, slow, long, nil, 400_000},
		{`reject, when: 'message.tags.exists(x, message == shop.Order{name: x, tags: message.tags})'`, limit, long, tags, 0},
		{`set, fields: {name: '[1,2,3,4,5,6,7,8].map(x, message.name + message.name + message.name).map(x, x+x+x+x+x+x+x+x+x+x+x+x+x)[0]'}`,
			limit, long, nil, 0},
		{`set, fields: {name: 'message.name.lowerAscii()'}`, "lowerAscii of a string of 204800 bytes, want at most 65536", long, nil, 0},
		{`set, fields: {name: 'message.name.replace("a", message.name)'}`,
			"replace makes a string of up to 1639680 bytes, want at most 1048576", strings.Repeat("a", 1280), nil, 0},
		{`set, fields: {name: 'message.tags.join(message.name)'}`, "join makes a string of more than 1048576 bytes, want at most that",
			strings.Repeat("a", 1000), tags, 0},
		{`reject, when: 'message.name.indexOf(message.name) > 1'`, "indexOf of 60000 bytes in 60000, want at most 4194304 as their product",
			long[:60000], nil, 0},
		{`reject, when: 'message.name.matches("^(a|b)*c$")'`, "matches of a string of 204800 bytes, want at most 65536", long, nil, 0},
		{`header, set: {a: 'message.name'}`, "a value of 204800 bytes, want at most 4096", long, nil, 0},
	} {
		t.Run(c.action, func(t *testing.T) {
			p := programOf(t, "- {on: request, action: "+c.action+"}")
			r := p.Method(create).Request
			var out Result
			start := time.Now()
			err := r.Apply(&Call{}, order(r, c.name, c.tags, c.numbers), Frame{}, &out)
			if c.want == limit { // on a machine that is slow the time is up first
				require.Regexp(t, limit+"|"+slow, err.Error())
			} else {
				require.ErrorContains(t, err, c.want)
			}
			require.Less(t, time.Since(start), 30*time.Second, "far less, but machines may be slow")
		})
	}
}

func TestApply_EvaluatesWhatALoopMayCost(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.tags.exists(x, x == "last")', action: reject}`)
	r := p.Method(create).Request
	var tags []string
	for i := range 10_000 {
		tags = append(tags, fmt.Sprint(i))
	}
	var out Result
	require.NoError(t, r.Apply(&Call{}, order(r, "", append(tags, "last"), 0), Frame{}, &out))
	require.Equal(t, Reject, out.Verdict)
}
