// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/kerneltest"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/mem"
)

func TestTheKernelInMemoryKeepsTheContract(t *testing.T) {
	kerneltest.Contract(t, func(testing.TB) kernel.Tables { return mem.New().Tables() })
}
