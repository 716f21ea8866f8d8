package etcdclient

import (
	"cmp"
	"context"
	"time"
)

// A member of etcd may take requests and answer none: its disk hangs, or it hears nothing of the others. Connections show
// nothing of it. So a question that is to be answered soon goes to further members while it is open: each request of a
// client goes to the next of its members in turn.
type Question struct {
	Within   time.Duration // for all of it
	Patience time.Duration // how long it waits for the members that it was put to before it goes to a further one
	Max      int           // how often it is put; others use the turns as well, so two of these may come to one member
}

const (
	NextMember  = 150 * time.Millisecond // patience with what a member answers in some milliseconds
	MaxAsked    = 8                      // of that
	enoughWrong = 3                      // so many failures, and nothing open, are an answer
)

// AskMembers puts a question until a member answers, its time is over or ctx ends. What etcd refuses is an answer, too. All
// that is still open then is canceled, and has ended when it returns.
func AskMembers[T any](ctx context.Context, q Question, ask func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, q.Within)
	answers := make(chan answer, q.Max)
	asked, ended := 0, 0
	put := func() {
		asked++
		go func() {
			value, err := ask(ctx)
			answers <- answer{value, err}
		}()
	}
	defer func() {
		cancel()
		for ; ended < asked; ended++ {
			<-answers
		}
	}()
	put()
	next := time.NewTicker(q.Patience)
	defer next.Stop()
	var failure error // the last
	for {
		select {
		case got := <-answers:
			ended++
			if got.err == nil || IsRefused(got.err) {
				return got.value, got.err
			}
			if failure == nil || ctx.Err() == nil { // that time is up says least
				failure = got.err
			}
			if ended == asked && ended >= min(enoughWrong, q.Max) {
				return got.value, failure
			}
		case <-next.C:
			if asked < q.Max {
				put()
			}
		case <-ctx.Done():
			var none T
			return none, cmp.Or(failure, ctx.Err())
		}
	}
}
