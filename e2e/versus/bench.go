// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

// bench is one run of everything.
type bench struct {
	options options
	began   time.Time
	report  report.Report
	site    *site // the control plane of the sizes that differ in the number of Services alone
	made    int   // Services that are there
	ended   *look.Ended
}

// say tells what goes on.
func (b *bench) say(format string, values ...any) {
	fmt.Printf("%8s  %s\n", time.Since(b.began).Round(time.Second), fmt.Sprintf(format, values...))
}

func (b *bench) run(ctx context.Context) error {
	if err := os.MkdirAll(b.options.folder, 0o755); err != nil {
		return err
	}
	ours, theirs, err := binaries(b.options.path)
	if err != nil {
		return err
	}
	b.report.Machine = machine(ctx, ours, theirs)
	if b.ended, err = look.WatchEnded(); err != nil {
		b.leave("which programs were run: %v", err)
	} else {
		defer b.ended.Close()
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for i, size := range b.options.sizes {
		if err := b.prepare(ctx, i); err != nil {
			b.leave("%v: there is no such cluster: %v", size, err)
			if err := errors.Join(ctx.Err(), b.close()); err != nil {
				return err
			}
			continue
		}
		if err := b.measure(ctx, size, ours, theirs); err != nil {
			return err
		}
	}
	return err
}

// prepare makes the objects of a size, in the control plane of the one before if it only lacks some.
func (b *bench) prepare(ctx context.Context, i int) error {
	size := b.options.sizes[i]
	if b.site == nil || i == 0 || size.Endpoints != b.options.sizes[i-1].Endpoints || size.Services < b.made {
		if err := b.close(); err != nil {
			return err
		}
		b.say("starting a control plane")
		b.site, b.made = &site{}, 0
		if err := b.site.open(ctx); err != nil {
			return err
		}
	}
	b.say("making %d Services with %d endpoints each", size.Services-b.made, size.Endpoints)
	if b.made == size.Services {
		return nil
	}
	err := b.site.fill(ctx, size, b.made)
	b.made = size.Services
	return err
}

func (b *bench) close() error {
	if b.site == nil {
		return nil
	}
	err := b.site.close()
	b.site = nil
	return err
}

// measure measures all programs at a size, and the floor.
func (b *bench) measure(ctx context.Context, size large.Size, ours, theirs string) error {
	for _, one := range []struct {
		name string
		make func(path, config string) program
		path string
	}{{report.Ours, newOurs, ours}, {report.Theirs, newTheirs, theirs}} {
		if !b.options.measures(one.name, size) {
			continue
		}
		if why := b.hopeless(one.name, size); why != "" {
			b.leave("%s at %v: %s", one.name, size, why)
			continue
		}
		r, err := b.runner(ctx, size, func(config string) program { return one.make(one.path, config) })
		if err != nil {
			return err
		}
		if one.name == report.Ours && b.options.wants(phaseFloor) {
			f, err := r.measureFloor(ctx)
			if err != nil {
				return err
			}
			b.report.Floors = append(b.report.Floors, f)
		}
		b.report.Runs = append(b.report.Runs, r.run(ctx))
		if err := b.save(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// runner is ready to measure a program.
func (b *bench) runner(ctx context.Context, size large.Size, make func(config string) program) (*runner, error) {
	r := &runner{site: b.site, size: size, options: b.options, say: b.say, ended: b.ended}
	path, text, err := b.site.configure(b.options.binding(make(""), size), b.options.profiles)
	if err != nil {
		return nil, err
	}
	r.program, r.text = make(path), text
	b.command(filepath.Base(r.program.argv[0]) + " " + strings.ReplaceAll(strings.Join(r.program.argv[1:], " "), b.site.folder+"/", ""))
	// The first start reads the program from the disk, which may be another machine's.
	if _, err := r.node().Run(ctx, r.program.argv[0], "--help"); err != nil {
		return nil, err
	}
	r.want, err = r.wish(ctx, text)
	return r, err
}

func (b *bench) command(line string) {
	if !slices.Contains(b.report.Commands, line) {
		b.report.Commands = append(b.report.Commands, line)
	}
}

// hopeless says why a program need not be tried: it ran out of time with fewer Services, or the bench did.
func (b *bench) hopeless(program string, size large.Size) string {
	if time.Since(b.began) > b.options.whole {
		return fmt.Sprintf("not tried: the bench had its %v", b.options.whole)
	}
	for _, r := range b.report.Runs {
		if r.Program == program && r.Services < size.Services && r.Endpoints == size.Endpoints && r.Exceeded != "" && len(r.Cold) == 0 {
			return fmt.Sprintf("not tried: at %dx%d %s", r.Services, r.Endpoints, r.Exceeded)
		}
	}
	return ""
}

// leave notes what is left out.
func (b *bench) leave(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	b.say("left out: %s", text)
	b.report.Unsaid = append(b.report.Unsaid, text)
}

// save writes all that is known so far.
func (b *bench) save() error {
	b.report.Took = report.Of(time.Since(b.began))
	if err := b.report.Save(b.options.folder); err != nil {
		return err
	}
	return b.report.Render(b.options.folder)
}

// verdict is an error if a program was measured that did not work.
func (b *bench) verdict() error {
	var list []error
	for _, r := range b.report.Runs {
		if r.Failure != "" {
			list = append(list, fmt.Errorf("no figure for %s at %dx%d: %s", r.Program, r.Services, r.Endpoints, r.Failure))
		}
	}
	return errors.Join(list...)
}
