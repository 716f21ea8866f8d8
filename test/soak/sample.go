package soak

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// sample has the sizes of a process at one time.
type sample struct {
	RSSBytes   int64
	Goroutines int64
	Files      int64 // open descriptors
}

// sampler samples a framegate once a second.
type sampler struct {
	pid    int
	admin  string // URL; it must serve pprof
	client http.Client
}

// run samples until ctx ends and returns the samples, or those before the first error and the error.
func (s *sampler) run(ctx context.Context) ([]sample, error) {
	defer s.client.CloseIdleConnections()
	var all []sample
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all, nil
		}
		one, err := s.take(ctx)
		switch {
		case ctx.Err() != nil:
			return all, nil
		case err != nil:
			return all, err
		}
		all = append(all, one)
	}
}

func (s *sampler) take(ctx context.Context) (one sample, err error) {
	if one.RSSBytes, err = s.rss(); err != nil {
		return one, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		return one, err
	}
	one.Files = int64(len(files))
	one.Goroutines, err = s.goroutines(ctx)
	return one, err
}

// rss reads the second field of /proc/PID/statm, in pages; proc(5).
func (s *sampler) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("soak: statm of process %d: %q, want two fields at least", s.pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// goroutines reads the number of goroutines from the first line of the profile: "goroutine profile: total 42".
func (s *sampler) goroutines(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.admin+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return 0, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	total, ok := strings.CutPrefix(first, "goroutine profile: total ")
	if !ok {
		return 0, fmt.Errorf("soak: the goroutine profile begins with %.80q and status %s, want its total",
			first, resp.Status)
	}
	return strconv.ParseInt(total, 10, 64)
}
