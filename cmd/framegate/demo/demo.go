// Package demo runs framegate with all that it needs in one process: an embedded etcd, two Kitex services, routes, the proxy,
// and Kitex clients that call all four kinds of method through it.
//
// Enter at Run; then calls.go.
package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"text/tabwriter"
	"time"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/idl"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// Config says where the demo listens. Its zero value takes free ports.
type Config struct {
	Listen string // of the proxy, host:port
	Etcd   string // of the embedded etcd, host:port
}

// world is everything that the demo runs. stop calls the functions of close in reverse order.
type world struct {
	dir      string
	services []*service
	gateway  *gateway.Gateway
	store    *etcdstore.Routes
	schemas  *etcdstore.Schemas
	close    []func()
}

// Run runs the demo, prints what it does on out, and stops everything. It returns an error if a call does not get the answer
// that it should. After the last call it calls stay, if not nil, with everything still running.
func Run(ctx context.Context, cfg Config, out io.Writer, stay func(*Demo)) error {
	w := &world{}
	defer w.stop()
	fmt.Fprintln(out, "framegate demo: Kitex clients -> framegate -> Kitex services, routes in etcd")
	fmt.Fprintln(out)
	if err := w.start(ctx, cfg, out); err != nil {
		return err
	}
	c, err := newClients(w.gateway.Addr("main"))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\ncalls through the proxy:")
	if err := w.show(ctx, c, demoCalls(), out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nthe route \"echo\" now goes to echo-2, put into etcd while the proxy runs:")
	took, err := w.put(ctx, echoRoute(w.services[1]))
	if err != nil {
		return err
	}
	again := []demoCall{{"unary", "/echo.Echo/Say", sayHello, "echo-2 heard hello", ""}}
	if err := w.show(ctx, c, again, out); err != nil {
		return err
	}
	fmt.Fprintf(out, "live after %s, no restart\n", took.Round(time.Millisecond))
	if err := w.showMirror(ctx, c, out); err != nil {
		return err
	}
	if err := w.showFanout(ctx, c, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nall is well")
	if stay != nil {
		stay(&Demo{Proxy: w.gateway.Addr("main"), Etcd: w.gateway.EtcdEndpoints()[0], Echo: w.services[0].addr})
	}
	return nil
}

// Demo has the addresses of a running demo.
type Demo struct {
	Proxy string // host:port of the proxy
	Etcd  string // host:port of the embedded etcd
	Echo  string // host:port of the first echo service itself
}

func (w *world) start(ctx context.Context, cfg Config, out io.Writer) (err error) {
	if w.dir, err = os.MkdirTemp("", "framegate-demo-"); err != nil {
		return err
	}
	w.close = append(w.close, func() { _ = os.RemoveAll(w.dir) })
	for _, start := range []func() (*service, error){
		func() (*service, error) { return startEcho("echo-1") },
		func() (*service, error) { return startEcho("echo-2") },
		startShop,
	} {
		s, err := start()
		if err != nil {
			return err
		}
		w.services = append(w.services, s)
		w.close = append(w.close, s.stop)
	}
	if err := w.startGateway(ctx, cfg); err != nil {
		return err
	}
	fmt.Fprintf(out, "  services   echo-1 %s, echo-2 %s, shop %s\n", w.services[0].addr, w.services[1].addr, w.services[2].addr)
	fmt.Fprintf(out, "  etcd       %s (embedded)\n", w.gateway.EtcdEndpoints()[0])
	fmt.Fprintf(out, "  proxy      %s\n", w.gateway.Addr("main"))
	if err := w.putSchema(ctx); err != nil {
		return err
	}
	for _, r := range []demoRoute{echoRoute(w.services[0]), {name: "shop", pattern: "/shop.*", addr: w.services[2].addr, method: "/shop.Shop/Price", more: shopRules}} {
		if _, err := w.put(ctx, r); err != nil {
			return err
		}
		fmt.Fprintf(out, "  route      %-5s %s -> %s\n", r.name, r.pattern, r.addr)
	}
	fmt.Fprintln(out, "             shop is in struct mode: its rules read and change messages")
	return nil
}

// shopRules are the keys that put the route of the shop in struct mode.
const shopRules = `
mode: struct
schema: {name: shop}
struct:
  rules:
  - {on: request, when: 'message.item == "beer"', action: reject, status: {code: PERMISSION_DENIED, message: "no beer here"}}
  - {on: request, when: 'message.item == "chai"', action: set, fields: {item: '"tea"'}}
  - {on: response, when: 'message.cents > 1000', action: set, fields: {cents: 'message.cents - 100'}}
`

// putSchema stores the message types of the shop.
func (w *world) putSchema(ctx context.Context) error {
	path := filepath.Join(w.dir, "shop.proto")
	if err := os.WriteFile(path, idl.Shop, 0o600); err != nil {
		return err
	}
	s, err := schema.Load(ctx, []string{path}, nil)
	if err == nil {
		_, err = w.schemas.Put(ctx, "shop", s)
	}
	return err
}

func (w *world) startGateway(ctx context.Context, cfg Config) error {
	c := conf.Default()
	c.Listeners[0].Address = cmp.Or(cfg.Listen, "127.0.0.1:0")
	c.Admin.Address = conf.None
	c.Etcd.Embedded = conf.EmbeddedEtcd{Dir: filepath.Join(w.dir, "etcd"), Address: cmp.Or(cfg.Etcd, "127.0.0.1:0")}
	c.Drain.Timeout = time.Second
	var err error
	if w.gateway, err = gateway.Start(ctx, c, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	w.close = append(w.close, func() { w.gateway.Shutdown(context.WithoutCancel(ctx)) })
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: w.gateway.EtcdEndpoints()})
	if err != nil {
		return err
	}
	w.close = append(w.close, func() { _ = cli.Close() })
	w.store = etcdstore.NewRoutes(cli, c.Etcd.Prefix, structmode.CompileRoute)
	w.schemas = etcdstore.NewSchemas(cli, c.Etcd.Prefix, structmode.CompileRoute)
	return nil
}

// liveWithin bounds the time from the put of a route until it is in force.
const liveWithin = time.Second

// demoRoute is a route to one endpoint, or as its further keys say.
type demoRoute struct {
	name, pattern, addr string
	method              string // one that the route takes
	header              string // that calls must have; empty for none
	more                string // further keys of the document; they may have backends instead of addr
}

func echoRoute(s *service) demoRoute {
	return demoRoute{name: "echo", pattern: "/echo.Echo/*", addr: s.addr, method: "/echo.Echo/Say"}
}

// document returns the route's document.
func (d demoRoute) document() (*spec.Route, error) {
	doc := fmt.Sprintf("name: %s\nmatch: [{method: %q}]\n%s\n", d.name, d.pattern, d.more)
	if d.header != "" {
		doc = fmt.Sprintf("name: %s\nmatch: [{method: %q, headers: [{name: %s, present: true}]}]\n%s\n", d.name, d.pattern, d.header, d.more)
	}
	if d.addr != "" {
		doc += fmt.Sprintf("backends: [{endpoints: [{address: %q}]}]\n", d.addr)
	}
	return spec.ParseRoute([]byte(doc))
}

// put stores a route, waits until it is in force in the proxy and returns how long that took.
func (w *world) put(ctx context.Context, d demoRoute) (time.Duration, error) {
	r, err := d.document()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, liveWithin)
	defer cancel()
	start := time.Now()
	if _, err := w.store.Put(ctx, r); err != nil {
		return 0, fmt.Errorf("put route %s: %w", d.name, err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if t, ok := w.gateway.Resolve(requestOf(d.method, d.header)); ok && reflect.DeepEqual(t.Document(), r) {
			return time.Since(start), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("route %s: not live within %s of being put", d.name, liveWithin)
		}
	}
}

// requestOf returns what routes see of a call of a method, with a header unless that is empty.
func requestOf(method, header string) spec.Request {
	return spec.Request{Listener: "main", Method: method, Header: spec.Header{header: {"yes"}}}
}

// show makes the calls and prints a line for each.
func (w *world) show(ctx context.Context, c clients, calls []demoCall, out io.Writer) error {
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "  METHOD\tKIND\tROUTE\tMODE\tSTATUS\tSENT\tRECEIVED\tLATENCY\tANSWER")
	var failed []error
	for _, call := range calls {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		start := time.Now()
		o, err := call.make(ctx, c)
		took := time.Since(start)
		cancel()
		status := "OK"
		switch {
		case err != nil:
			status, o.answer = "FAILED", err.Error()
			failed = append(failed, fmt.Errorf("%s: %w", call.method, err))
		case o.answer != call.want:
			status = "WRONG"
			failed = append(failed, fmt.Errorf("%s: answer %q, want %q", call.method, o.answer, call.want))
		}
		route, mode := "none", spec.Mode("-")
		if t, ok := w.gateway.Resolve(requestOf(call.method, call.header)); ok {
			route, mode = t.Route, t.Mode
		}
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", call.method, call.kind, route, mode, status, o.sent, o.received, took.Round(10*time.Microsecond), o.answer)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	return errors.Join(failed...)
}

func (w *world) stop() {
	for i := len(w.close) - 1; i >= 0; i-- {
		w.close[i]()
	}
}
