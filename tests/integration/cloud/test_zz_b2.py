import time, threading, json
from pathlib import Path
from cloud_api.app import create_app, keep_withdrawals
from cloud_api.config import CloudConfig
from cloud_api.devices.enrolment import Grant
import cloud_api.backups.withdrawals as withdrawals
def test_x(cloud_school, tmp_path):
    s=cloud_school; code=s.code(Grant("student", s.add_user("a").id), uses=400)
    with s.database.transaction() as c:
        c.execute("INSERT INTO audit_log (school_id,id,at_ms,actor,action,subject) SELECT %s, gen_random_uuid(), n, 'x', CASE WHEN n%%100=0 THEN 'user.password_set' ELSE 'user.signed_in' END, gen_random_uuid() FROM generate_series(1,200000) n", (s.id,))
        c.execute("ANALYZE audit_log")
        c.execute("EXPLAIN ANALYZE SELECT school_id, replace(subject, '-', '')::uuid, 'password', max(at_ms), '', 0 FROM audit_log WHERE action = 'user.password_set' GROUP BY 1, 2")
        print("\n".join(r[0] for r in c.fetchall()))
    for reg in (False, True):
        app=create_app(CloudConfig(), s.database)
        if reg: keep_withdrawals(app, s.database, tmp_path/"withdrawals.jsonl")
        def work():
            cl=app.test_client()
            for _ in range(12):
                r=cl.post("/v1/devices/enrol", json={"code":code,"device_name":"d","app_version":"1"}); assert r.status_code==201
        t=time.time(); ts=[threading.Thread(target=work) for _ in range(8)]
        [x.start() for x in ts]; [x.join() for x in ts]
        print(reg, round((time.time()-t)/96*1000,1),'ms each')
    print(len(withdrawals.read(tmp_path/"withdrawals.jsonl")))
