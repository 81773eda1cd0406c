import supervisor,subprocess
code="""
import os
own='/sys/fs/cgroup'+open('/proc/self/cgroup').read().split('::')[1].strip()
for d in (own, own+'/..', own+'/../..'):
    d=os.path.realpath(d)
    print(d, [ (f,open(d+'/'+f).read().strip()) for f in ('cpu.weight','cgroup.subtree_control','cgroup.controllers','cpu.max') if os.path.exists(d+'/'+f)])
"""
o=supervisor.run(["python3","-c",code],limits={"cpu_weight":7},capture_output=True)
print(o.stdout.decode(), o)
