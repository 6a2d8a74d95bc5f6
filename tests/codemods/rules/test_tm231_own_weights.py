"""TM231: a script that makes a model without weights that all ranks share."""

from textwrap import dedent, indent

import pytest

from support import HERE, IMPORT, findings


def script(body: str, head: str = "", name: str = "model") -> dict[str, str]:
    """A script that wraps a model, with lines before it."""
    lines = f"{dedent(body)}\napply_ddp({name}, dims.world_mesh, False)\n"
    text = (
        f"{IMPORT} apply_ddp\n\n\n{dedent(head)}\n\n\ndef main(dims, width, given):\n"
    )
    return {HERE: text + indent(lines, "    ")}


def found(body: str, head: str = "", name: str = "model"):
    return findings(script(body, head, name), code="TM231")


@pytest.mark.parametrize(
    "made",
    [
        "model = Model(width)",
        "model = Model(width).to('cuda').train()",
        "model = build_model(width)\nmodel = model.cuda()",
        "model = models.Transformer(width)",
        "torch.manual_seed(7 + rank)\nmodel = Model(width)",
        "torch.manual_seed(dist.get_rank())\nmodel = Model(width)",
        "rows = load_dataset('c4')\nmodel = Model(width)",
        "tokenizer = AutoTokenizer.from_pretrained(given)\nmodel = Model(width)",
        "teacher.load_state_dict(given)\nmodel = Model(width)",
        "optimizer.load_state_dict(given)\nmodel = Model(width)",
        "tokens = torch.load(given)\nmodel = Model(width)",
        "dist.broadcast_object_list([given])\nmodel = Model(width)",
        "seed = 7 + dist.get_rank()\ntorch.manual_seed(seed)\nmodel = Model(width)",
        "torch.manual_seed(int(os.environ['RANK']))\nmodel = Model(width)",
        "np.random.seed(0)\nrandom.seed(0)\nmodel = Model(width)",
        "numbers = torch.Generator()\nnumbers.manual_seed(0)\nmodel = Model(width)",
        "torch.seed()\nmodel = Model(width)",
        "log.report_seed(given)\nhandler.restore()\nmodel = Model(width)",
        "model: nn.Module = Model(width)",
        "model, tokenizer = build(width)",
        "model = Model(width) if given is None else torch.jit.load(given)",
    ],
)
def test_fires(made):
    (one,) = found(made)
    assert one.status == "hazard" and one.severity == "silent"
    assert "for tensor in (*model.parameters(), *model.buffers()):" in one.suggestion


def test_fires_for_an_attribute_that_another_method_makes():
    text = f"""
        {IMPORT} apply_ddp


        class Actor:
            def make(self):
                self.model = Model()

            def wrap(self):
                apply_ddp(self.model, self.dims.world_mesh, False)
    """
    (one,) = findings({HERE: text}, code="TM231")
    assert "*self.model.parameters()" in one.suggestion


def test_fires_for_the_module_level_of_a_script():
    text = f"""
        {IMPORT} apply_ddp

        model = Model()
        apply_ddp(model, world_mesh, False)
    """
    assert len(findings({HERE: text}, code="TM231")) == 1


@pytest.mark.parametrize(
    "made",
    [
        "torch.manual_seed(7)\nmodel = Model(width)",
        "set_determinism(dims.world_mesh, device, seed)\nmodel = Model(width)",
        "model = Model(width)\nmodel.load_state_dict(torch.load(given))",
        "model = Model(width)\ndcp.load(model.state_dict(), checkpoint_id=given)",
        "model = AutoModel.from_pretrained(given)",
        "model = load_model(given)",
        "model = Model(width)\nfor p in model.parameters(): dist.broadcast(p.detach(), 0)",
        "model = given",
        "model = given.model.eval()",
        "model = copy.deepcopy(given)",
        "seed_everything(7)\nmodel = Model(width)",
        "torch.cuda.manual_seed_all(7)\nmodel = Model(width)",
        "model = Model(width)\ncheckpointer.load(step=-1)",
        "model = Model(width)\nset_model_state_dict(model, load_file(given))",
        "model = Model(width)\nfor p in model.parameters(): dist.all_reduce(p.data)",
        "model = Model(width)\nfor p in model.parameters(): nn.init.constant_(p, 0.1)",
        "model = Model(width)\nbroadcast_parameters(model)",
    ],
)
def test_does_not_fire(made):
    assert found(made) == []


def test_does_not_fire_for_a_model_that_comes_from_elsewhere():
    assert found("pass", name="given") == []


@pytest.mark.parametrize(
    ("body", "handed"),
    [
        ("torch.manual_seed(3)", "width"),
        ("thing.load_state_dict(torch.load('a'))", "model"),
        ("dist.broadcast(thing, 0)", "model"),
    ],
)
def test_does_not_fire_where_a_function_of_the_checkout_does_it(body, handed):
    head = f"def prepare(thing):\n    {body}"
    made = f"model = Model(width)\nprepare({handed})"
    assert found(made, head) == []
    assert len(found(made, head.replace(body, "pass"))) == 1


def test_what_a_function_loads_is_the_model_only_where_it_is_handed_that():
    head = "def prepare(thing):\n    return torch.load(thing)"
    assert len(found("prepare(width)\nmodel = Model(width)", head)) == 1


def test_does_not_fire_where_a_caller_in_another_file_seeds():
    wraps = script("model = Model(width)")
    module = HERE.removesuffix(".py").replace("/", ".")
    run = f"import torch\nfrom {module} import main\n\ntorch.manual_seed(0)\nmain(dims, 2, None)\n"
    assert findings({**wraps, "run.py": run}, code="TM231") == []
    for other in (run.replace("(0)", "(rank)"), run.replace(module, "elsewhere")):
        assert len(findings({**wraps, "run.py": other}, code="TM231")) == 1


def test_another_class_of_the_file_has_no_say():
    text = f"""
        {IMPORT} apply_ddp


        class Bench:
            def make(self):
                self.model = Model()


        class Actor:
            def wrap(self):
                apply_ddp(self.model, self.dims.world_mesh, False)
    """
    assert findings({HERE: text}, code="TM231") == []


def test_fires_for_a_model_that_is_named():
    text = f"""
        {IMPORT} apply_ddp


        def main(dims):
            model = Model()
            apply_ddp(model=model, dp_mesh=dims.world_mesh, enable_compile=False)
    """
    assert len(findings({HERE: text}, code="TM231")) == 1


def test_does_not_fire_under_the_training_loop():
    text = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(world_mesh, job_config):
            model = Model()
            if job_config.shard:
                apply_fsdp(model, world_mesh, job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
    """
    assert findings({HERE: text}, code="TM231") == []


TRAINER = "torchtitan/train_mine.py"


def trainer(before="pass", between="pass", extra=""):
    text = f"""
        import torch
        {IMPORT} apply_ddp


        class Trainer:
            def __init__(self, dims, config, model):
                {before}
                model = self.spec.parallelize_fn(model, dims, config)
                {between}
                model.init_weights()
                {extra}

            def spread(self, seed):
                torch.manual_seed(seed + torch.distributed.get_rank())
    """
    return [(f.path, f.line) for f in findings({TRAINER: text}, code="TM231")]


@pytest.mark.parametrize(
    "seeds",
    [
        "set_determinism(dims, config, distinct_seed_mesh_dims=['pp', 'dp_replicate'])",
        "set_determinism(dims, config, distinct_seed_mesh_dim='dp_replicate')",
        "torch.manual_seed(config.seed + torch.distributed.get_rank())",
        "torch.manual_seed(config.seed + dims.get_mesh('batch').get_local_rank())",
        "seed = config.seed + dp_rank; torch.manual_seed(seed)",
        "seed_everything(int(os.environ['RANK']))",
        "self.spread(config.seed)",
    ],
)
def test_fires_for_a_trainer_that_seeds_each_replica_for_itself(seeds):
    assert trainer(before=seeds) == [(TRAINER, 7)]
    assert trainer(between=seeds) == [(TRAINER, 9)]
    assert trainer(extra=seeds) == []  # dropout may differ


@pytest.mark.parametrize(
    "seeds",
    [
        "set_determinism(dims, config, distinct_seed_mesh_dims=['pp'])",
        "torch.manual_seed(config.seed + pp_rank)",
        "torch.manual_seed(config.seed + dims.get_mesh('pp').get_local_rank())",
        "torch.manual_seed(rank); torch.manual_seed(config.seed)",
        "self.spread(1); set_determinism(dims, config, distinct_seed_mesh_dims=['pp'])",
        "np.random.seed(rank)",
        "device = f'cuda:{rank}'; set_determinism(dims, device, config.seed)",
    ],
)
def test_does_not_fire_for_a_trainer_that_seeds_replicas_alike(seeds):
    seeds = f"import os; {seeds}"
    assert trainer(before=seeds) == []


def test_does_not_fire_for_a_trainer_that_loads_the_model():
    seeds = "torch.manual_seed(config.seed + torch.distributed.get_rank())"
    assert trainer(seeds, extra="model.load_state_dict(torch.load('a'))") == []
    assert trainer(seeds, extra="self.optimizer.load_state_dict(1)") != []


def test_a_seed_set_after_the_base_made_the_model_may_differ():
    text = """
        from torchtitan.models.llama3.parallelize import apply_ddp
        from torchtitan.train_mine import Trainer


        class Mine(Trainer):
            def __init__(self, dims, config, model):
                {}
                super().__init__(dims, config, model)
                {}
    """
    seeds = "set_determinism(dims, config, distinct_seed_mesh_dims=['dp_replicate'])"
    for lines, at in (((seeds, "pass"), [7]), (("pass", seeds), [])):
        files = {"torchtitan/mine.py": text.format(*lines)}
        assert [f.line for f in findings(files, code="TM231")] == at


def test_a_script_that_makes_the_model_first_may_seed_by_rank_after():
    text = """
        import torch
        from torchtitan.models.llama3.parallelize import parallelize_llama

        def main(dims):
            {}
            model = Model()
            {}
            parallelize_llama(model, dims)
    """
    seeds = "torch.manual_seed(torch.distributed.get_rank())"
    for lines, at in (((seeds, "pass"), [5]), (("torch.manual_seed(0)", seeds), [])):
        files = {"torchtitan/mine.py": text.format(*lines)}
        assert [f.line for f in findings(files, code="TM231")] == at


def test_fires_for_a_method_that_seeds_and_makes_before_another_wraps():
    text = """
        import torch
        from torchtitan.models.llama3.parallelize import parallelize_llama

        class Two:
            def __init__(self, dims):
                self.build()
                self.wrap(dims)

            def build(self):
                torch.manual_seed(torch.distributed.get_rank())
                self.model = Model()

            def wrap(self, dims):
                self.model = parallelize_llama(self.model, dims)
    """
    files = {"torchtitan/mine.py": text}
    assert [f.line for f in findings(files, code="TM231")] == [6]
    files = {"torchtitan/mine.py": text.replace("get_rank", "get_world_size")}
    assert findings(files, code="TM231") == []
