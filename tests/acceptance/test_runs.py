"""`photo-tagger runs` as an operator types it: begun, worked on, looked at, refused by its gates, deleted."""

import asyncio
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.change_bench import ChangeBench
from tests.harness_process import environment, photo_tagger


async def test_a_run_from_its_start_to_its_deletion(change: ChangeBench, tmp_path: Path) -> None:
    triton = change.settings.triton
    more = {"TAGGER_TRITON__ADMIN_KEY": triton.admin_key.get_secret_value(), "COLUMNS": "80"}
    env = environment(change.settings, **more)

    async def command(*arguments: str) -> CompletedProcess[str]:
        return await asyncio.to_thread(photo_tagger, "runs", *arguments, env=env, cwd=tmp_path)

    async def answer(*arguments: str) -> dict[str, Any]:
        ended = await command(*arguments)
        assert ended.returncode == 0, ended.stderr
        row: dict[str, Any] = json.loads(ended.stdout)
        return row

    async with change.world.service(change.settings) as service:
        change.upload(12)
        await change.tagged(service)
        candidate = ("--quality", "2", "--reason", "half as bright")
        assert (await answer("start", *candidate, "--rate", "4", "--dry-run"))["seconds"] == 3
        assert (await command("list")).stdout == ""
        begun = await answer("start", *candidate, "--name", "half")
        assert (begun["run"], begun["total"], begun["state"]) == ("half", 12, "started")
        assert begun["candidate"].startswith("photo_quality 1 is now photo_quality 2")

        early = await command("delete", "half")
        assert (early.returncode, "cancel it first" in early.stderr) == (8, True)

        worked = await command("work", "half")
        assert json.loads(worked.stdout) == {"run": "half", "complete": True, "outcomes": {"tagged": 12}}
        steps = [json.loads(line) for line in worked.stderr.splitlines() if '"run.progress"' in line]
        assert steps[-1]["done"] == steps[-1]["total"] == 12
        shown = await answer("show", "half")
        assert (shown["state"], shown["done"], shown["judged"], shown["not_judged"]) == ("complete", 12, 12, 0)
        assert (await answer("list"))["state"] == "complete"
        assert (await answer("work", "half")) == {"run": "half", "complete": True, "outcomes": {}}
        paused = await command("pause", "half")
        assert (paused.returncode, "is complete: there is nothing left to pause" in paused.stderr) == (8, True)

        written = await answer("diff", "half", "--output", "out")
        report = json.loads((tmp_path / written["report"]).read_text())
        assert report["photos"]["compared"] == 12
        page = (tmp_path / written["page"]).read_text()
        assert page.count("data:image/jpeg;base64,") >= 12
        assert "photo_quality" in page

        refused = await command("promote", "half", "--reason", "now")
        assert refused.returncode == 8
        assert "--force" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        change.check(1, "1")

    assert "cancelled" in (await command("cancel", "half")).stdout
    assert "deleted" in (await command("delete", "half")).stdout
    gone = await command("work", "half")
    assert (gone.returncode, "no run half" in gone.stderr) == (6, True)
    wrong = await command("start", *candidate, "--offsets", "9:0-1")
    assert (wrong.returncode, "has no partition 9" in wrong.stderr) == (3, True)
    same = await command("start", "--quality", "1", "--reason", "x")
    assert (same.returncode, "which is in force" in same.stderr) == (8, True)
