// SPDX-License-Identifier: Apache-2.0

package main

// failure is what ends a measurement: whatever goes wrong in one, there is no figure, and what comes after is not tried.
type failure struct{ error }

// check ends what attempt does if err is an error.
func check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// must is a value that there is unless err is an error, which ends what attempt does.
func must[T any](value T, err error) T {
	check(err)
	return value
}

// attempt returns the error that ended work, if one did.
func attempt(work func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.error
		default:
			panic(p)
		}
	}()
	work()
	return nil
}
