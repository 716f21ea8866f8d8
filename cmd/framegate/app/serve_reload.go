package app

import (
	"context"
	"log/slog"
	"os"
	"os/signal"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
)

// reloadSignals are the channels of the signals that change a running server.
type reloadSignals struct {
	reload chan os.Signal // read the configuration again, and reopen log files
	reopen chan os.Signal // reopen log files
}

// notify catches the signals, which would end the process by default, until stop. Up to one of each kind waits for obey:
// what a further one asks for, the waiting one will do.
func (s *reloadSignals) notify() (stop func()) {
	s.reload, s.reopen = make(chan os.Signal, 1), make(chan os.Signal, 1)
	notifyReload(s.reload, s.reopen)
	return func() {
		signal.Stop(s.reload)
		signal.Stop(s.reopen)
	}
}

// obey reopens log files and reloads the configuration, as the signals ask, until ctx ends.
func (s *reloadSignals) obey(ctx context.Context, r reloader) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reopen:
			r.reopenLogs()
		case <-s.reload:
			r.reopenLogs()
			r.reload(ctx)
		}
	}
}

// reloader changes a running server.
type reloader struct {
	read    func(loadFunc) (*conf.Config, error)
	gateway *gateway.Gateway
	logs    *serverLog
	log     *slog.Logger
}

func (r reloader) reopenLogs() {
	if err := r.gateway.ReopenLogs(); err != nil {
		r.log.Error("log files cannot be opened again; lines go where they went", "error", oneLine(err))
	}
}

// reload reads the configuration again and puts in force the keys that may change. A configuration with a mistake changes
// nothing.
func (r reloader) reload(ctx context.Context) {
	cfg, err := r.read(conf.LoadAgain)
	if err == nil {
		err = r.gateway.Reload(ctx, cfg)
	}
	if err != nil {
		r.log.Error("the configuration cannot be read again; all of it stays as it is", "error", oneLine(err))
		return
	}
	r.logs.set(cfg.Log)
}
