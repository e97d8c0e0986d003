// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
)

// writers is how many requests of the bench are under way at once.
const writers = 16

// each calls write for all numbers from one to another, several at once, until one fails.
func each(ctx context.Context, from, to int, write func(ctx context.Context, n int) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	numbers := make(chan int)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for n := range numbers {
				if err := write(ctx, n); err != nil {
					fail(err) // the first one counts
				}
			}
		})
	}
	for n := from; n < to && ctx.Err() == nil; n++ {
		select {
		case numbers <- n:
		case <-ctx.Done():
		}
	}
	close(numbers)
	group.Wait()
	return context.Cause(ctx)
}
