package admin

import (
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
	"strconv"
)

// maxProfileSeconds bounds the duration of a profile.
const maxProfileSeconds = 600

func pprofIndex(w http.ResponseWriter, r *http.Request) error {
	pprof.Index(w, r)
	return nil
}

// pprofProfile serves the profiles of package net/http/pprof, under the same names. The errors of that package, such as that
// of a second CPU profile at once, stay in plain text, because "go tool pprof" prints them.
func pprofProfile(w http.ResponseWriter, r *http.Request) error {
	if v := r.URL.Query().Get("seconds"); v != "" {
		if sec, err := strconv.Atoi(v); err != nil || sec < 1 || sec > maxProfileSeconds {
			return badParameter("seconds: %q, want a whole number from 1 to %d", v, maxProfileSeconds)
		}
	}
	switch name := r.PathValue("profile"); name {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		if runtimepprof.Lookup(name) == nil {
			return notFound("profile: %q, want one of those at /debug/pprof/", name)
		}
		pprof.Handler(name).ServeHTTP(w, r)
	}
	return nil
}
