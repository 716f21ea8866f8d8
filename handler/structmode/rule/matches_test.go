package rule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// alternation is a pattern of about that size. What begins with a z is not in the texts here, so it is found out at once
// that it does not match: but it is counted as if it were not.
func alternation(size int) string { return fmt.Sprintf("z(?:(?:ac|d)?){%d}b", size/5) }

// anyMatches is a rule with a condition on the name, for each text a pattern.
func anyMatches(patterns ...string) string {
	var terms []string
	for _, p := range patterns {
		terms = append(terms, fmt.Sprintf("message.name.matches(%q)", p))
	}
	return "- {on: request, when: '" + strings.Join(terms, " || ") + "', action: reject}\n"
}

func twelve(size int) []string {
	var all []string
	for i := range 12 {
		all = append(all, alternation(size)+fmt.Sprint(i))
	}
	return all
}

// A pattern takes as long as its size times the length of the text: nothing else of an expression without loops does.
func TestApply_CountsPatternsByTheirSizeAndTheLengthOfTheText(t *testing.T) {
	long := strings.Repeat("a", 65_000)
	for _, c := range []struct {
		name, rules, text string
		fails             bool
	}{
		{"twelve alternations", anyMatches(twelve(500)...), long, true},
		{"one large alternation", anyMatches(alternation(1900)), long, true},
		{"as a function", `- {on: request, when: 'matches(message.name, "` + alternation(1900) + `")', action: reject}`, long, true},
		{"in a loop", `- {on: request, when: '[1, 2, 3].exists(n, message.name.matches("` + alternation(900) + `"))', action: reject}`, long, true},
		{"beside a call that is counted", `- {on: request, when: '(message.name + "a").matches("` + alternation(1900) + `")', action: reject}`, long[:60_000], true},
		{"of what was made", `- {on: request, when: '(message.name + message.name).matches("` + alternation(1900) + `")', action: reject}`, long[:32_000], true},
		{"in an optional", `- {on: request, when: 'optional.of(message.name).orValue("").matches("` + alternation(1900) + `")', action: reject}`, long, true},
		{"twelve alternations on a short text", anyMatches(twelve(300)...), long[:1000], false},
		{"twelve short ones", anyMatches(twelve(20)...), long, false},
		{"a list of words", anyMatches("(?i)(" + strings.Repeat("casino|", 60) + "lottery)"), long, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := programOf(t, c.rules).Method(create).Request
			var out Result
			err := r.Apply(&Call{}, order(r, c.text, nil, 0), Frame{}, &out)
			if !c.fails {
				require.NoError(t, err)
				require.Equal(t, Pass, out.Verdict)
				return
			}
			require.EqualError(t, err, "struct.rules[0].when: costs more than 1000000")
		})
	}
}

func TestCompile_BoundsPatterns(t *testing.T) {
	compile := func(rules string) error {
		_, err := Compile(routeOf(t, rules), shop(t))
		return err
	}
	loop := func(size int) string {
		return `- {on: request, when: 'message.tags.exists(x, x.matches("` + alternation(size) + `"))', action: reject}`
	}
	require.NoError(t, compile(loop(150)))
	require.ErrorContains(t, compile(loop(250)), ": costs up to ")
	require.ErrorContains(t, compile(anyMatches("a{900}b{900}c{900}")), "matches of a pattern of 2702 instructions, want at most 2000")
	require.ErrorContains(t, compile(anyMatches(`\pL{900}\pN{200}`)), "instructions, want at most 2000")

	same, different := strings.Repeat(anyMatches("a{900}", "a{900}"), maxRules), ""
	for i := range maxRules {
		different += anyMatches(fmt.Sprintf("a{900}x%d", i), fmt.Sprintf("a{900}y%d", i))
	}
	require.NoError(t, compile(same))
	require.ErrorContains(t, compile(different), "matches of patterns of more than 100000 instructions together, want at most that")
	require.ErrorContains(t, Check(routeOf(t, different)), "matches of patterns of more than 100000 instructions together, want at most that")
}

func TestApply_CountsWhatLoopsMake(t *testing.T) {
	text := strings.Repeat("a", 60_000)
	tags := make([]string, 900)
	for _, c := range []struct{ name, when string }{
		{"lists of letters", `message.tags.map(t, message.name.split("")).size() == 0`},
		{"lists of letters that are taken apart", `message.tags.exists(t, message.name.split("").size() == 0)`},
		{"copies of a text", `message.tags.map(t, shop.Order{name: message.name}).size() == 0`},
		{"copies of a message", `message.tags.map(t, shop.Order{extra: message}).size() == 0`},
		{"copies of a list", `message.tags.map(t, shop.Order{tags: message.tags, numbers: message.numbers}).size() == 0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := programOf(t, "- {on: request, when: '"+c.when+"', action: reject}").Method(create).Request
			m := order(r, text, tags, 9000)
			err := r.Apply(&Call{}, m, Frame{}, new(Result))
			require.Regexp(t, "costs more than 1000000|takes longer than 1s", fmt.Sprint(err))
		})
	}
}

// endsAt is a context that has ended when it is asked for the n-th time.
type endsAt struct {
	context.Context
	n, asked int
}

func (c *endsAt) Err() error {
	if c.asked++; c.asked >= c.n {
		return context.Canceled
	}
	return nil
}

func TestApply_HearsThatTheCallHasEnded(t *testing.T) {
	loop := programOf(t, `- {on: request, when: 'message.numbers.exists(n, n < 0)', action: reject}`).Method(create).Request
	// Each condition is short, but what it does may take long with a long message.
	plain := programOf(t, strings.Repeat(`- {on: request, when: 'message.name.contains("b") || message.name.contains("c")', action: reject}`+"\n", 5)).Method(create).Request
	// So is a pattern, and there may be one in each rule.
	patterns := programOf(t, strings.Repeat(anyMatches(alternation(500)), maxRules)).Method(create).Request
	for _, c := range []struct {
		name    string
		rules   *Rules
		message protoreflect.Message
		bytes   int
		asked   int // without an end
	}{
		{"loop", loop, order(loop, "", nil, 1000), 1000, 100},
		{"long message", plain, order(plain, "a", nil, 0), 1 << 20, 10},
		{"patterns", patterns, order(patterns, strings.Repeat("a", maxTextBytes), nil, 0), 0, maxRules},
		{"short message", plain, order(plain, "a", nil, 0), 100, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := &endsAt{Context: t.Context(), n: 1 << 30}
			require.NoError(t, c.rules.Apply(&Call{Context: ctx}, c.message, Frame{Bytes: c.bytes}, new(Result)))
			require.GreaterOrEqual(t, ctx.asked, c.asked)
			for n := 1; n <= min(ctx.asked, 10); n++ {
				ended := &endsAt{Context: t.Context(), n: n}
				err := c.rules.Apply(&Call{Context: ended}, c.message, Frame{Bytes: c.bytes}, new(Result))
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorAs(t, err, new(*EvalError))
				require.False(t, errors.Is(err, context.DeadlineExceeded))
				require.Equal(t, n, ended.asked, "it stops at once")
			}
		})
	}
}

// Errors do not end loops: what stops an evaluation has to.
func TestApply_StopsALoopAtOnce(t *testing.T) {
	r := programOf(t, `- {on: request, when: 'message.numbers.exists(n, message.numbers[n] < 0)', action: reject}`).Method(create).Request
	m := order(r, "", nil, 100_000)
	allocs := testing.AllocsPerRun(1, func() {
		err := r.Apply(&Call{Context: &endsAt{Context: t.Context(), n: 1}}, m, Frame{}, new(Result))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	require.Less(t, allocs, 10_000.0)
}

// The most that patterns may cost is to take about maxTime.
func BenchmarkMatches_MostThatTheyMayCost(b *testing.B) {
	for _, pattern := range []string{`(?:(?:ac|d)?){390}b`, `(?:a?){480}b`, `(?i)(?:\pL?){480}9`} {
		b.Run(pattern, func(b *testing.B) {
			r := programOf(b, anyMatches(pattern)).Method(create).Request
			size, err := patternSize(pattern)
			require.NoError(b, err)
			length := min(MaxCost*stepsPerCost/size, maxTextBytes)
			m := order(r, strings.Repeat("a", length), nil, 0)
			for b.Loop() {
				require.NoError(b, r.Apply(&Call{}, m, Frame{}, new(Result)))
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)*MaxCost*stepsPerCost/float64(size*length), "ms/MaxCost")
		})
	}
}
