"""TM201: weights are tied after the model was wrapped."""

from support import HERE, IMPORT, findings


def plan(before="", after=""):
    return f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            {before or "pass"}
            if job_config.shard:
                apply_fsdp(model, world_mesh, job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
            {after or "pass"}
    """


TIE = "model.output.weight = model.tok_embeddings.weight"


def test_fires_after_wrapping():
    found = findings({HERE: plan(after=TIE)}, code="TM201")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 10, "hazard")]
    assert TIE in found[0].suggestion


def test_does_not_fire_before_wrapping_or_in_a_constructor():
    model = f"class Model:\n    def __init__(model):\n        {TIE}\n"
    files = {HERE: plan(before=TIE), "torchtitan/models/mine/model.py": model}
    assert findings(files, code="TM201") == []


def test_does_not_fire_for_other_weights():
    other = "model.output.bias = model.tok_embeddings.bias"
    assert findings({HERE: plan(after=other)}, code="TM201") == []


def test_a_tie_by_method_after_wrapping_does_not_break_it():
    found = findings({HERE: plan(after="model.tie_weights()")}, code="TM201")
    assert len(found) == 1


def test_the_advice_keeps_fsdp_whole():
    (found,) = findings({HERE: plan(after=TIE)}, code="TM201")
    assert (
        "fully_shard([model.tok_embeddings, model.norm, model.output], **fsdp_config)"
        in found.suggestion
    )
    assert "torch 2.12" in found.suggestion and "before you migrate" in found.message


def test_a_model_that_ties_in_its_constructor_is_not_told_to():
    model = "class Model:\n    def __init__(self):\n        self.output.weight = self.tok_embeddings.weight\n"
    files = {HERE: plan(after=TIE), "torchtitan/models/mine/model.py": model}
    (found,) = findings(files, code="TM201")
    assert "the model ties them itself" in found.message
    assert found.suggestion == f"# and not here: {TIE}"
