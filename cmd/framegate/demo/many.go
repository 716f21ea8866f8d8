package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/resolver/fieldpath"
)

// showMirror shows a mirror whose answers are compared with those that the client gets.
func (w *world) showMirror(ctx context.Context, c clients, out io.Writer) error {
	fmt.Fprintln(out, "\necho-1 is a mirror of the route now: it gets copies of calls, and its answers are compared:")
	route := echoRoute(w.services[1])
	route.more = fmt.Sprintf("mirrors: [{name: shadow, backend: {endpoints: [{address: %q}]}, compare: {}}]", w.services[0].addr)
	if _, err := w.put(ctx, route); err != nil {
		return err
	}
	if err := w.show(ctx, c, []demoCall{{"unary", "/echo.Echo/Say", sayHello, "echo-2 heard hello", ""}}, out); err != nil {
		return err
	}
	st, err := w.awaitComparison(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  mirror %s: %d copy, %d of the answers differs\n", st.Name, st.Calls, st.Compared[mirror.Different])
	return nil
}

// awaitComparison waits until an answer of the mirror was compared.
func (w *world) awaitComparison(ctx context.Context) (mirror.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if all := w.gateway.Mirrors(); len(all) == 1 {
			if st := all[0].Status(); st.Compared[mirror.Different] == 1 {
				return st, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return mirror.Status{}, errors.New("the mirror's answer was not compared, or does not differ")
		}
	}
}

// showFanout shows a call that goes to all endpoints.
func (w *world) showFanout(ctx context.Context, c clients, out io.Writer) error {
	fmt.Fprintln(out, "\ncalls with the header x-everybody go to both services at once; each message says who it is of:")
	route := demoRoute{
		name: "echo-all", pattern: "/echo.Echo/Stream", method: "/echo.Echo/Stream", header: everybody,
		more: fmt.Sprintf("backends: [{endpoints: [{address: %q, tags: {node: first}}, {address: %q, tags: {node: second}}]}]\nfanout: {targets: {from: backend}}",
			w.services[0].addr, w.services[1].addr),
	}
	if _, err := w.put(ctx, route); err != nil {
		return err
	}
	return w.show(ctx, c, []demoCall{{"fan-out", "/echo.Echo/Stream", streamOfAll, "echo-1 heard all (first), echo-2 heard all (second)", everybody}}, out)
}

// everybody is the request header of calls that go to all services.
const everybody = "x-everybody"

// streamOfAll calls all services, and returns what each has sent.
func streamOfAll(ctx context.Context, c clients) (o outcome, err error) {
	s, err := c.echo.Stream(metadata.AppendToOutgoingContext(ctx, everybody, "yes"), &echo.Request{Message: "all", Count: 1})
	if err != nil {
		return o, err
	}
	var answers []string
	for o.sent = 1; ; o.received++ {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return o, err
		}
		answers = append(answers, fmt.Sprintf("%s (%s)", r.Message, nodeOf(r)))
	}
	slices.Sort(answers)
	o.answer = strings.Join(answers, ", ")
	return o, nil
}

// nodeOf returns who a message is of, by what framegate has appended to it: field 1 of field 99.
func nodeOf(r *echo.Reply) string {
	encoded, err := r.Marshal(nil)
	if err != nil {
		return err.Error()
	}
	node, err := fieldpath.Path{99, 1}.Last(encoded)
	if err != nil {
		return err.Error()
	}
	return string(node.Bytes)
}
